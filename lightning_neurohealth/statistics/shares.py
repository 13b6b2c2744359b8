"""Shares of the functions that a learned activation mixes."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class Shares(Statistic):
    """Σ of the shares of each function, ``[functions]``; only where the activation is a mixture."""

    sums: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum", (len(_parts(subject)),))

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return len(_parts(subject)) > 1

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.x.double().sum((0, 2))}

    @property
    def shares(self) -> Tensor:
        """Share of each function, the mean over ranks, which all have the same."""
        return self.sums / self.rows


def _parts(subject: Subject) -> tuple[str, ...]:
    return subject.function.parts if isinstance(subject, Layer) else ()
