"""The step at which the loss was first NaN or infinite."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts


class NonfiniteLossStep(Measure):
    """First step of the window on which the training loss was not finite, a scalar; infinite if none was."""

    level = "economy"

    def compute(self, loss: NonFiniteCounts) -> Tensor:
        return loss.first
