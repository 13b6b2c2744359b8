"""Slope of the activation where its neurons work."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class Slopes(Statistic):
    """Σ \\|f'(z)\\| over rows, and the rows on which f'(z) ≠ 0."""

    fusable = True
    sums: Tensor
    nonzero: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.derivative, self.is_gate = subject.function.derivative, subject.function.is_gate
        self.state("sums", "sum")
        self.state("nonzero", "sum")

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and not subject.function.linear

    @property
    def constants(self) -> tuple[object, ...]:
        return (self.derivative,)

    def reduce(self, rows: Rows) -> Partials:
        if self.is_gate:
            on = rows.counted(torch.gt, 0.0)
            return {"sums": on, "nonzero": on}
        sums, nonzero = rows.sizes_and_nonzero(self.derivative)
        return {"sums": sums, "nonzero": nonzero}
