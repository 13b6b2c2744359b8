"""Where the validation loss goes."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.validation_history import History
from lightning_neurohealth.progress import slope

RECENT = 5


class ValidationTrend(Measure):
    """Least-squares slope of the validation loss over the last five evaluations, whatever windows they fell in, a
    scalar, in units of the loss an evaluation; NaN with fewer than two.

    Above 0 while the training loss falls: the model learns its training data by heart.

    Source: technical deep dive (S2), "validation curve analysis".
    """

    def compute(self, validation_loss: History) -> Tensor:
        recent = validation_loss.points[-RECENT:]
        return recent.new_tensor(slope(recent.tolist()).value)
