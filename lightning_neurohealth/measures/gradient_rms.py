"""Gradient of one element of a parameter."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.statistics.moments import Moments


class GradientRms(Measure):
    """Root mean square over elements and measured steps of ∂L/∂θ, one number a parameter (a layer shows its weight's).

    Unlike the norm it can be compared between matrices of different sizes: a fall along the way back to the input by
    many orders of magnitude is a vanishing gradient.

    Source: technical deep dive (S2), with its ratio turned the right way up.
    """

    level = "economy"

    def compute(self, parameter_gradient: Moments, subject: Parameters) -> Tensor:
        return (parameter_gradient.squares / parameter_gradient.rows / subject.sizes).sqrt()
