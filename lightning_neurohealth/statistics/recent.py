"""Exponential averages."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject


class Recent(Statistic):
    """States that fade by 0.9 a measured step.

    Numerator and number of rows fade alike, so their ratio needs no bias correction, weighs rows and not batches, and
    adds over ranks. What has seen no row in a window has a number left all the same: ``new_rows`` tells.
    """

    decay = 0.9
    steady: ClassVar[frozenset[str]] = frozenset({"fresh"})
    fresh: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("fresh", "sum", ())

    @property
    def new_rows(self) -> Tensor:
        return self.fresh

    def native_sums(self) -> dict[str, Sum]:
        own = super().native_sums()
        return {**own, "fresh": ROWS} if own else own

    def completed(self, partials: Partials, rows: int, step: int) -> Partials:
        return {**super().completed(partials, rows, step), "fresh": rows}
