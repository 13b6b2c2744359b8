"""Mean gradient of each parameter."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.statistics.moments import Moments


class GradientMean(Measure):
    """Mean of ∂L/∂θ over the elements of each parameter and the measured steps, one number a parameter (a layer shows
    its weight's), in units of loss per unit of the parameter, after unscaling, before clipping; 0 where there is none.

    Far from 0 beside ``gradient_std``: all elements are pushed the same way.

    Source: advanced activation techniques (S4).
    """

    level = "full"

    def compute(self, parameter_gradient_sum: Moments, subject: Parameters) -> Tensor:
        return parameter_gradient_sum.mean / subject.sizes
