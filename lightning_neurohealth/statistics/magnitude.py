"""Sum of absolute values."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.recent import Recent
from lightning_neurohealth.statistics.rows import Rows


class Magnitude(Statistic):
    """Σ \\|x\\| over rows."""

    fusable = True
    sums: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum")

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.magnitudes()}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "sums": Sum(What.MAGNITUDE)}


class RecentMagnitude(Recent, Magnitude):
    """The same, as an exponential average over measured steps."""
