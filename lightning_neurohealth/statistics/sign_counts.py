"""How often a neuron is positive, and how often it is zero."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows

EPSILON = 1e-8


class SignCounts(Statistic):
    """Rows on which x > 0, and rows on which \\|x\\| ≤ 1e-8."""

    fusable = True
    positive: Tensor
    zero: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("positive", "sum")
        self.state("zero", "sum")

    def reduce(self, rows: Rows) -> Partials:
        return {"positive": rows.counted(torch.gt, 0.0), "zero": rows.near(EPSILON)}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "positive": Sum(What.ABOVE, 0.0), "zero": Sum(What.NEAR, EPSILON)}
