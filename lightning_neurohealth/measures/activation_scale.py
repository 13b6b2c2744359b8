"""Size of a layer's variation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class ActivationScale(Measure):
    """Standard deviation over the rows of a batch of each neuron, median over neurons, a scalar, in units of the
    activation.

    Pooling neurons would let their biases hide a collapse, and pooling batches the drift of their biases while they
    train.

    Falling geometrically along the depth: activations vanish; growing: they explode.

    Source: activation monitoring (S1).
    """

    level = "economy"

    def compute(self, activation: Moments) -> Tensor:
        return activation.variance_within.sqrt().median()
