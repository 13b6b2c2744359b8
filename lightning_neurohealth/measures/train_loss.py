"""Training loss."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.series import Series


class TrainLoss(Measure):
    """Loss of each step, as the optimizer sees it: the points of the window, ``[points]``.

    Source: technical deep dive (S2).
    """

    level = "economy"

    def compute(self, loss: Series) -> Tensor:
        return loss.points
