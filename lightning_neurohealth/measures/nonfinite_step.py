"""The step at which a layer first wrote NaN or Inf."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts


class NonfiniteStep(Measure):
    """First measured step on which an activation of the layer was not finite, a scalar; infinite if none was.

    Of all layers with the smallest step, the first in the order of execution is where it began.
    """

    level = "economy"

    def compute(self, activation: NonFiniteCounts) -> Tensor:
        return activation.first
