"""How often a gradient gets through to a neuron."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.pass_counts import PassCounts


class GradientPassRate(Measure):
    """P(∂L/∂a ≠ 0) on rows where the layer's gradient is not all zero, ``[neurons]``, a share; 0 where it always is.

    0: nothing behind the neuron listens to it. 1: every row teaches it.

    Source: neuron health summary (S0), "gradient flow".
    """

    percent = True

    def compute(self, activation_gradient: PassCounts) -> Tensor:
        return activation_gradient.passed / activation_gradient.live.clamp_min(1)
