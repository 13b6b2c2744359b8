"""How often a number is NaN or infinite, and since when."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class NonFiniteCounts(Statistic):
    """Rows on which x is NaN or infinite, and the first step at which one was."""

    bad: Tensor
    first: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("bad", "sum")
        self.state("first", "min", ())

    def reduce(self, rows: Rows) -> Partials:
        return {"bad": rows.non_finite()}

    def stamp(self, partials: Partials, step: int) -> None:
        bad = partials["bad"]
        assert isinstance(bad, Tensor)
        partials["first"] = torch.where(bad.sum() > 0, float(step), math.inf).double()

    def alarming(self, partials: Partials) -> bool:
        return bool(torch.as_tensor(partials["bad"]).sum() > 0)
