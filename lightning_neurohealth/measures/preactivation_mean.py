"""Mean pre-activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class PreactivationMean(Measure):
    """E z over the rows of the window, ``[neurons]``, in units of z. Layers without an activation have none.

    Far below 0 with a small spread: why a ReLU neuron is dead.

    Source: neuron health summary (S0).
    """

    def compute(self, preactivation: Moments) -> Tensor:
        return preactivation.mean
