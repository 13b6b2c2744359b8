"""How often a pre-activation lies deep in the tails of its activation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class TailCounts(Statistic):
    """Rows on which z is where \\|f'\\| stays under 5 % of its largest value, ends included: ReLU is flat at 0."""

    fusable = True
    tail: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.low, self.high = subject.function.tails
        self.state("tail", "sum")

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and not subject.function.linear

    @property
    def constants(self) -> tuple[object, ...]:
        return (self.low, self.high)

    def reduce(self, rows: Rows) -> Partials:
        ends = [(torch.le, self.low)] * (self.low > -math.inf) + [(torch.ge, self.high)] * (self.high < math.inf)
        counts = [rows.counted(compare, end) for compare, end in ends]
        return {"tail": sum(counts[1:], start=counts[0])} if counts else {}

    def native_sums(self) -> dict[str, Sum]:
        low, high = (end if math.isfinite(end) else math.nan for end in (self.low, self.high))
        return {"rows": ROWS, "tail": Sum(What.OUTSIDE, low, high)}
