"""How often a number is NaN or infinite, and since when."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class NonFiniteCounts(Statistic):
    """Rows on which x is NaN or infinite, and the first step at which one was."""

    fusable = True
    bad: Tensor
    first: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("bad", "sum")
        self.state("first", "min", ())

    def reduce(self, rows: Rows) -> Partials:
        bad = rows.non_finite()
        return {} if bad is None else {"bad": bad}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "bad": Sum(What.BAD), "first": Sum(What.FIRST)}

    def stamp(self, partials: Partials, step: int) -> None:
        if "bad" in partials:
            bad = torch.as_tensor(partials["bad"]).view(-1, self.neurons).sum(1)
            partials["first"] = torch.where(bad > 0, float(step), math.inf).double().squeeze(0)

    def take_steps(self, values: Tensor, steps: Sequence[int]) -> None:
        bad = ~values.isfinite()
        when = torch.tensor(steps, dtype=torch.float64, device=values.device)
        first = torch.where(bad, when, math.inf).amin()
        self.merge({"bad": bad.sum().view(1), "first": first, "rows": len(steps)})

    def alarming(self, partials: Partials) -> bool:
        return "bad" in partials and bool(torch.as_tensor(partials["bad"]).sum() > 0)
