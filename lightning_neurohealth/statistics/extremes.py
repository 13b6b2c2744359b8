"""The smallest and the largest value."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class Extremes(Statistic):
    """min x and max x over rows."""

    fusable = True
    lowest: Tensor
    highest: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("lowest", "min")
        self.state("highest", "max")

    def reduce(self, rows: Rows) -> Partials:
        return {"lowest": rows.wide.amin(1).view(-1), "highest": rows.wide.amax(1).view(-1)}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "lowest": Sum(What.LOWEST), "highest": Sum(What.HIGHEST)}
