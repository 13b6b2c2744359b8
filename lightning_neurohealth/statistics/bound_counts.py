"""How often a neuron is stuck at an end of its activation's range."""

from __future__ import annotations

import math
from functools import cache
from typing import ClassVar, cast

import torch
from torch import Tensor

from lightning_neurohealth.activations.activation import CUTOFF
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class BoundCounts(Statistic):
    """Rows on which a lies within the cut-off of a finite bound of f, either bound.

    Attributes:
        cutoff: From where on a bound that f only approaches counts as reached.
    """

    fusable = True
    cutoff: ClassVar[float] = CUTOFF
    low: Tensor
    high: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.bounds = subject.function.saturation_bounds(self.cutoff)
        self.state("low", "sum")
        self.state("high", "sum")

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and subject.function.saturates

    @property
    def constants(self) -> tuple[object, ...]:
        return self.bounds

    def reduce(self, rows: Rows) -> Partials:
        low, high = self.bounds
        counts: Partials = {} if low is None else {"low": rows.counted(torch.le, low)}
        return counts if high is None else {**counts, "high": rows.counted(torch.ge, high)}

    def native_sums(self) -> dict[str, Sum]:
        low, high = (math.nan if bound is None else bound for bound in self.bounds)
        return {"rows": ROWS, "low": Sum(What.AT_MOST, low), "high": Sum(What.AT_LEAST, high)}


@cache
def bound_counts(cutoff: float) -> type[BoundCounts]:
    """The same for another cut-off, a kind of its own: what was counted at one never adds to what was at another."""
    if cutoff == CUTOFF:
        return BoundCounts
    facts = {"__module__": __name__, "__doc__": BoundCounts.__doc__, "cutoff": cutoff}
    return cast("type[BoundCounts]", type(f"BoundCountsFrom{cutoff!r}", (BoundCounts,), facts))
