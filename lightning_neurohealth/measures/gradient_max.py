"""Largest gradient within each parameter."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.extremes import Extremes


class GradientMax(Measure):
    """Greatest element of ∂L/∂θ of each parameter over the measured steps, one number a parameter (a layer shows
    its weight's), in units of loss per unit of the parameter, after unscaling, before clipping; 0 where there is none.

    Many ``gradient_std`` over 0: a few elements take the whole step.

    Source: advanced activation techniques (S4).
    """

    level = "full"

    def compute(self, parameter_gradient_max: Extremes) -> Tensor:
        return parameter_gradient_max.highest
