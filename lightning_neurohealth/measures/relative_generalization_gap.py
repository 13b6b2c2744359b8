"""How much worse the model is on data that it does not train on, beside how good it is."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.generalization_gap import gap
from lightning_neurohealth.statistics.series import Series

EPSILON = 1e-8


class RelativeGeneralizationGap(Measure):
    """(L_val − L_train) / (|L_train| + 1e-8), a scalar, no unit; NaN where the window had no evaluation.

    Above 0.5 in half of all healthy runs, as the training loss goes to 0: it says nothing by itself.

    Sources: technical deep dive (S2), Goodfellow et al. (2016).
    """

    level = "economy"

    def compute(self, validation_loss: Series, loss: Series) -> Tensor:
        train = loss.points
        return gap(validation_loss.points, train) / (train.mean().abs() + EPSILON)
