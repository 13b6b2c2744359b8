"""What silencing a neuron would do to the loss."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.spatial_magnitude import SpatialMagnitude


class Taylor(Measure):
    """E |Σ over space of ∂L/∂a · a| over samples, ``[neurons]``, in units of the loss; for channels space is the map,
    elsewhere every row stands for itself. L is the loss of one optimizer step, so a sample's share shrinks with the
    batch.

    0: to first order the loss would not notice if the neuron were gone. Compare neurons within a layer.

    Sources: neuron fitness (S3), "gradient × activation"; Molchanov et al. (2017).
    """

    level = "full"

    def compute(self, activation_times_gradient: SpatialMagnitude) -> Tensor:
        return activation_times_gradient.sums / activation_times_gradient.samples
