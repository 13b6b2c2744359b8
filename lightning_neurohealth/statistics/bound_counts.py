"""How often a neuron is stuck at an end of its activation's range."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class BoundCounts(Statistic):
    """Rows on which a lies within the cut-off of a finite bound of f, either bound."""

    fusable = True
    low: Tensor
    high: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.bounds = subject.function.saturation_bounds()
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
