"""Mean of what is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class KnownMean(Statistic):
    """Σx over the rows on which x is not NaN, and their number."""

    sums: Tensor
    known: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum")
        self.state("known", "sum")

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.total(_known), "known": rows.total(lambda x, out: torch.eq(x, x, out=out))}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "sums": Sum(What.SUM_OF_KNOWN), "known": Sum(What.KNOWN)}

    @property
    def mean(self) -> Tensor:
        """Mean over the rows that are known, ``[neurons]``; NaN where none is."""
        return self.sums / self.known


def _known(x: Tensor, out: Tensor) -> None:
    torch.nan_to_num(x, nan=0.0, posinf=math.inf, neginf=-math.inf, out=out)
