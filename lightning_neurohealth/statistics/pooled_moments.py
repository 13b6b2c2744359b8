"""Mean and spread of numbers that belong to no neuron."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class PooledMoments(Statistic):
    """Σx, Σx² and the number of elements, over all axes."""

    sums: Tensor
    squares: Tensor
    elements: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        for name in ("sums", "squares", "elements"):
            self.state(name, "sum", ())

    def reduce(self, rows: Rows) -> Partials:
        x = rows.x.double()
        return {"sums": x.sum(), "squares": (x * x).sum(), "elements": x.numel()}

    @property
    def mean(self) -> Tensor:
        """Mean, a scalar."""
        return self.sums / self.elements

    @property
    def variance(self) -> Tensor:
        """Population variance, a scalar."""
        return torch.clamp_min(self.squares / self.elements - self.mean**2, 0.0)
