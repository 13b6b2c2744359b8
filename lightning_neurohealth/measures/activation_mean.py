"""Mean activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class ActivationMean(Measure):
    """E a over the rows of the window, ``[neurons]``, in units of the activation.

    Far from 0 beside its spread: the neuron is mostly a bias.

    Source: activation monitoring (S1).
    """

    def compute(self, activation: Moments) -> Tensor:
        return activation.mean
