"""Validation loss."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.series import Series


class ValidationLoss(Measure):
    """Loss of each evaluation of the window, as the user logs it, ``[evaluations]``; empty where there was none.

    See ``generalization_gap`` and ``validation_trend`` for what it says.

    Source: technical deep dive (S2).
    """

    level = "economy"

    def compute(self, validation_loss: Series) -> Tensor:
        return validation_loss.points
