"""The step at which a gradient was first NaN or infinite."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts


class NonfiniteGradientStep(Measure):
    """First measured step of the window on which the norm of all gradients was not finite, a scalar; infinite if none
    was. Steps that a GradScaler skips for overflow do not count.
    """

    level = "economy"

    def compute(self, global_gradient: NonFiniteCounts) -> Tensor:
        return global_gradient.first
