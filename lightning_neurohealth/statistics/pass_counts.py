"""How often a gradient gets through to a neuron."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class PassCounts(Statistic):
    """Rows on which a neuron's gradient is not zero, and rows on which some neuron's of the layer is not."""

    fusable = True
    passed: Tensor
    live: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("passed", "sum")
        self.state("live", "sum", ())

    def reduce(self, rows: Rows) -> Partials:
        passed, live = rows.passing()
        return {"passed": passed, "live": live}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "passed": Sum(What.NONZERO), "live": Sum(What.LIVE)}
