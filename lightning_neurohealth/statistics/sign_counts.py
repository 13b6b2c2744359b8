"""How often a neuron is positive, and how often it is zero."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject, total

EPSILON = 1e-8


class SignCounts(Statistic):
    """Rows on which x > 0, and rows on which \\|x\\| ≤ 1e-8."""

    positive: Tensor
    zero: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("positive", "sum")
        self.state("zero", "sum")

    def reduce(self, x: Tensor) -> Partials:
        return {"positive": total(x > 0), "zero": total(x.abs() <= EPSILON)}
