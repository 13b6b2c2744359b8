"""Mean gradient of a layer's weights."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class GradientMean(Measure):
    """Mean of ∂L/∂w over the weights of a layer and the measured steps, a scalar, in units of loss per weight, after
    unscaling, before clipping.

    Far from 0 beside ``gradient_std``: all weights are pushed the same way.

    Source: advanced activation techniques (S4).
    """

    level = "full"

    def compute(self, weight_gradient: Moments) -> Tensor:
        return weight_gradient.mean.mean()
