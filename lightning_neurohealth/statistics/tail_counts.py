"""How often a pre-activation lies deep in the tails of its activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject, total


class TailCounts(Statistic):
    """Rows on which z is where \\|f'\\| stays under 5 % of its largest value, ends included: ReLU is flat at 0."""

    tail: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.low, self.high = subject.function.tails
        self.state("tail", "sum")

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and not subject.function.linear

    def reduce(self, x: Tensor) -> Partials:
        return {"tail": total((x <= self.low) | (x >= self.high))}
