"""Sum of the positive part."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class PositiveSums(Statistic):
    """Σ max(x, 0) over rows, only for layers that read nothing negative."""

    side_by_side = True
    sums: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum")

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and subject.nonnegative

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.total(lambda x, out: torch.clamp_min(x, 0.0, out=out), "positive")}
