"""How much the loss listens to a neuron's weights."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.recent_moments import RecentMoments


class Fisher(Measure):
    """Exponential average of Σ (∂L/∂θ)² over the incoming weights and the bias of each neuron, ``[neurons]``, in
    squared units of loss per weight. It fades by 0.9 a measured step and outlives windows.

    Near 0: the neuron is not used. It is the diagonal of the empirical Fisher information for the gradient of a batch,
    so compare neurons with each other, not runs with different batch sizes.

    Source: neuron health summary (S0), "Fisher proxy".
    """

    level = "full"

    def compute(self, neuron_gradient: RecentMoments) -> Tensor:
        return neuron_gradient.squares / neuron_gradient.rows
