"""Slope of the activation where its neurons work."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.derivatives import relu_slope

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class Slopes(Statistic):
    """Σ \\|f'(z)\\| over rows, and the rows on which f'(z) ≠ 0."""

    sums: Tensor
    nonzero: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.derivative = subject.function.derivative
        self.state("sums", "sum")
        self.state("nonzero", "sum")

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and not subject.function.linear

    def reduce(self, rows: Rows) -> Partials:
        if self.derivative is relu_slope:
            on = rows.counted(torch.gt, 0.0)
            return {"sums": on, "nonzero": on}
        sums, nonzero = rows.total_and_nonzero(lambda z, out: torch.abs(self.derivative(z), out=out))
        return {"sums": sums, "nonzero": nonzero}
