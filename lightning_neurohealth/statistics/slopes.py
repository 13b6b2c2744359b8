"""Slope of the activation where its neurons work."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject, total


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

    def reduce(self, x: Tensor) -> Partials:
        slope = self.derivative(x)
        return {"sums": total(slope.abs()), "nonzero": total(slope != 0)}
