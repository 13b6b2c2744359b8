"""Largest activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.extremes import Extremes


class ActivationMax(Measure):
    """max a over the rows of the window, ``[neurons]``, in units of the activation.

    Growing from window to window: activations explode, or an outlier neuron.

    Source: activation monitoring (S1).
    """

    level = "full"

    def compute(self, activation: Extremes) -> Tensor:
        return activation.highest
