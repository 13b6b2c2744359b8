"""Slope of the activation where its neurons work."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class Slopes(Statistic):
    """Σ \\|f'(z)\\| over rows."""

    fusable = True
    sums: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.derivative, self.is_gate = subject.function.derivative, subject.function.is_gate
        self.state("sums", "sum")

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and not subject.function.linear

    @property
    def constants(self) -> tuple[object, ...]:
        return (self.derivative,)

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.counted(torch.gt, 0.0) if self.is_gate else rows.sizes(self.derivative)}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "sums": Sum(What.ABOVE, 0.0)} if self.is_gate else {}
