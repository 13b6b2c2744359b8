"""The shape that an activation has learned."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class Curve(Statistic):
    """Σ of f(z) at each of some places, ``[places]``; only where the activation learns its shape."""

    sums: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum", (_places(subject),))

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return _places(subject) > 0

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.x.double().sum((0, 2))}

    @property
    def values(self) -> Tensor:
        """f at each place, the mean over ranks, which all have the same."""
        return self.sums / self.rows


def _places(subject: Subject) -> int:
    return subject.function.places if isinstance(subject, Layer) else 0
