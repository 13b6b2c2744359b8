"""Whether training and validation part."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.validation_history import History
from lightning_neurohealth.measures.validation_trend import RECENT
from lightning_neurohealth.progress import slope
from lightning_neurohealth.statistics.series import Series


class Divergence(Measure):
    """1 where the training loss of the window and the last five evaluations have slopes of different signs, else 0, a
    scalar; NaN with fewer than two evaluations or points.

    1 with a validation loss that rises (``validation_trend``): the model learns its training data by heart.

    Sources: technical deep dive (S2), Caruana et al. (2001).
    """

    def compute(self, loss: Series, validation_loss: History) -> Tensor:
        validation = slope(validation_loss.points[-RECENT:].tolist()).value
        train = slope(loss.points.tolist()).value
        apart = math.nan if math.isnan(validation) or math.isnan(train) else float((validation > 0) != (train > 0))
        return loss.sums.new_tensor(apart)
