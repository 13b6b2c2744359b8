"""How far a neuron is from its nearest copy."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.twins import Twins


class TwinDistance(Measure):
    """min over j ≠ i of ‖w_i − w_j‖ / max(‖w_i‖, ‖w_j‖) over incoming weights without bias, ``[neurons]``, at most 1;
    1 too for a neuron without weights. For copies it is exact, for others an upper bound: only four likely others are
    looked at, so that it costs a few passes over the weights.

    0: another neuron of the layer has the same weights. Random neurons are about 1 apart. Unlike ``redundancy`` it
    tells a neuron from its mirror image and from one of another size.

    Source: neuron health summary (S0), "redundancy".
    """

    def compute(self, weight: Twins) -> Tensor:
        return weight.least
