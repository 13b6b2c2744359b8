"""Spread of the gradient of a layer's weights."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class GradientStd(Measure):
    """Population standard deviation of ∂L/∂w over the weights of a layer and the measured steps, a scalar, in units of
    loss per weight, after unscaling, before clipping.

    0: no gradient, or the same for every weight.

    Source: advanced activation techniques (S4).
    """

    level = "full"

    def compute(self, weight_gradient: Moments) -> Tensor:
        return weight_gradient.pooled_variance.sqrt()
