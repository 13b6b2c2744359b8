"""Sum of absolute values."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject, total


class Magnitude(Statistic):
    """Σ \\|x\\| over rows."""

    sums: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum")

    def reduce(self, x: Tensor) -> Partials:
        return {"sums": total(x.abs())}


class RecentMagnitude(Magnitude):
    """The same, as an exponential average over measured steps.

    Numerator and number of rows fade alike, so their ratio needs no bias correction, weighs rows and not batches, and
    adds over ranks.
    """

    decay = 0.9
