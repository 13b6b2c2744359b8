"""Sum of absolute values."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject, total
from lightning_neurohealth.statistics.recent import Recent


class Magnitude(Statistic):
    """Σ \\|x\\| over rows."""

    sums: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum")

    def reduce(self, x: Tensor) -> Partials:
        return {"sums": total(x.abs())}


class RecentMagnitude(Recent, Magnitude):
    """The same, as an exponential average over measured steps."""
