"""How much gradient reaches a neuron."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.magnitude import RecentMagnitude


class GradientFlow(Measure):
    """Exponential average of E |∂L/∂a|, ``[neurons]``, in units of loss per activation; L is the loss of one
    optimizer step, so loss scaling, accumulation and the number of ranks do not show. It fades by 0.9 a measured step
    and outlives windows.

    0: the neuron is never updated through its activation.

    Sources: neuron health summary (S0), neuron fitness (S3).
    """

    level = "economy"

    def compute(self, activation_gradient: RecentMagnitude) -> Tensor:
        return activation_gradient.sums / activation_gradient.rows
