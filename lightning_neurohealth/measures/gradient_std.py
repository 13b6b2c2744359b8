"""Spread of the gradient of each parameter."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.statistics.moments import Moments


class GradientStd(Measure):
    """Population standard deviation of ∂L/∂θ over the elements of each parameter and the measured steps, together,
    one number a parameter (a layer shows its weight's), in units of loss per unit of the parameter, after unscaling,
    before clipping.

    0: no gradient, or the same for every element at every step.

    Source: advanced activation techniques (S4).
    """

    level = "full"

    def compute(
        self, parameter_gradient_sum: Moments, parameter_gradient_squares: Moments, subject: Parameters
    ) -> Tensor:
        mean = parameter_gradient_sum.mean / subject.sizes
        square = parameter_gradient_squares.mean / subject.sizes
        variance = square - mean**2
        # what is left of a constant is rounding
        return torch.where(variance <= 1e-14 * square, 0.0, variance).sqrt()
