"""Smallest gradient of a layer's weights."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.extremes import Extremes


class GradientMin(Measure):
    """min of ∂L/∂w over the weights of a layer and the measured steps, a scalar, in units of loss per weight, after
    unscaling, before clipping.

    Many ``gradient_std`` under 0: a few weights take the whole step.

    Source: advanced activation techniques (S4).
    """

    level = "full"

    def compute(self, weight_gradient: Extremes) -> Tensor:
        return weight_gradient.lowest.min()
