"""How fast the loss falls."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.progress import log_slope
from lightning_neurohealth.statistics.series import Series


class Progress(Measure):
    """Least-squares slope of log L over the steps of the window, a scalar, per step: −0.01 is a loss that falls by 1 %
    a step. Where a loss is 0 or negative, the slope of L divided by the mean of |L|, the same to first order. NaN with
    fewer than two points.

    Below 0: the network learns. Within its noise of 0: it has converged, or it stalls.

    Sources: technical deep dive (S2), Bottou (2010).
    """

    def compute(self, loss: Series) -> Tensor:
        return loss.sums.new_tensor(log_slope(loss.points.tolist()) / loss.stride)
