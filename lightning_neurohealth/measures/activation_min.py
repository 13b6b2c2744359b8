"""Smallest activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.extremes import Extremes


class ActivationMin(Measure):
    """min a over the rows of the window, ``[neurons]``, in units of the activation.

    Source: activation monitoring (S1).
    """

    level = "full"

    def compute(self, activation: Extremes) -> Tensor:
        return activation.lowest
