"""Spread of the activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class ActivationStd(Measure):
    """Population standard deviation of a over the rows of the window, ``[neurons]``, in units of the activation.

    0: the neuron says the same whatever it sees. Falling along the depth: activations vanish; growing: they explode.

    Source: activation monitoring (S1).
    """

    level = "economy"

    def compute(self, activation: Moments) -> Tensor:
        return activation.variance.sqrt()
