"""Where the loss goes lately."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.loss_relative_variance import SPANS
from lightning_neurohealth.progress import slope
from lightning_neurohealth.statistics.series import Series


class LossSlope(Measure):
    """Least-squares slope of L over the last 5, 10 and 15 points of the window, or as many as there are, ``[spans]``,
    in units of the loss per step; NaN with fewer than two.

    Below 0: falling. Signs that differ: noise.

    Sources: technical deep dive (S2), Prechelt (1998).
    """

    def compute(self, loss: Series) -> Tensor:
        points = loss.points.tolist()
        return loss.sums.new_tensor([slope(points[-span:]).value / loss.stride for span in SPANS])
