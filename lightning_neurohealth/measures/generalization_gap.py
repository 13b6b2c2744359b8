"""How much worse the model is on data that it does not train on."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.series import Series


class GeneralizationGap(Measure):
    """L_val − L_train, a scalar, in units of the loss: the last evaluation of the window against the mean training loss
    of the window; NaN where there was none.

    Above 0 in most healthy runs, and below with dropout or while the loss falls fast: it says nothing by itself. See
    how it goes.

    Sources: technical deep dive (S2), Goodfellow et al. (2016).
    """

    level = "economy"

    def compute(self, validation_loss: Series, loss: Series) -> Tensor:
        return gap(validation_loss.points, loss.points)


def gap(validation: Tensor, train: Tensor) -> Tensor:
    """The last of ``validation`` minus the mean of ``train``; NaN where one is empty."""
    return validation[-1:].mean() - train.mean()
