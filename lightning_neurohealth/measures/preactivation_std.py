"""Spread of the pre-activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class PreactivationStd(Measure):
    """Population standard deviation of z over the rows of the window, ``[neurons]``, in units of z.

    Much below |mean|: the neuron stays on one side of its activation.

    Source: neuron health summary (S0).
    """

    def compute(self, preactivation: Moments) -> Tensor:
        return preactivation.variance.sqrt()
