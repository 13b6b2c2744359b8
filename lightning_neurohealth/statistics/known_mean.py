"""Mean of what is known."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject, total


class KnownMean(Statistic):
    """Σx over the rows on which x is not NaN, and their number."""

    sums: Tensor
    known: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum")
        self.state("known", "sum")

    def reduce(self, x: Tensor) -> Partials:
        return {
            "sums": total(x.nan_to_num(nan=0.0, posinf=float("inf"), neginf=-float("inf"))),
            "known": total(~x.isnan()),
        }

    @property
    def mean(self) -> Tensor:
        """Mean over the rows that are known, ``[neurons]``; NaN where none is."""
        return self.sums / self.known
