"""Sums from which mean, spread and norms follow."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.native.sums import FREEDOM, ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class Moments(Statistic):
    """Σx and Σx² over rows, in float64; and Σ(x − mean of the batch)².

    Sums of powers add over batches and ranks; in float64 the variance keeps nine digits while the mean is below some
    thousand standard deviations. The deviations within batches tell the spread over data from the drift of a neuron
    while the weights change.
    """

    fusable = True
    sums: Tensor
    squares: Tensor
    within: Tensor
    freedom: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum")
        self.state("squares", "sum")
        self.state("within", "sum")
        self.state("freedom", "sum", ())

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.sums(), "squares": rows.squares()}

    def native_sums(self) -> dict[str, Sum]:
        of_each = {"sums": Sum(What.SUM), "squares": Sum(What.SQUARE), "within": Sum(What.WITHIN)}
        return {"rows": ROWS, "freedom": FREEDOM, **of_each}

    def completed(self, partials: Partials, rows: int, step: int) -> Partials:
        sums, squares = partials["sums"], partials["squares"]
        assert isinstance(sums, Tensor)
        assert isinstance(squares, Tensor)
        within = sums - sums if rows == 1 else torch.addcmul(squares, sums, sums, value=-1.0 / rows).clamp_min_(0.0)
        return super().completed({**partials, "within": within, "freedom": rows - 1}, rows, step)

    @property
    def mean(self) -> Tensor:
        """Mean over rows, ``[neurons]``."""
        return self.sums / self.rows

    @property
    def variance(self) -> Tensor:
        """Population variance over rows, ``[neurons]``."""
        mean_square = self.squares / self.rows
        variance = mean_square - self.mean**2
        # what is left of a constant is rounding
        return torch.where(variance <= 1e-14 * mean_square, 0.0, variance)

    @property
    def variance_within(self) -> Tensor:
        """Variance over the rows of a batch, ``[neurons]``; over all rows where every batch had but one."""
        return torch.where(self.freedom > 0, self.within / self.freedom, self.variance)

    @property
    def pooled_variance(self) -> Tensor:
        """Population variance over rows and neurons together, a scalar."""
        count = self.rows * self.neurons
        mean = self.sums.sum() / count
        return torch.clamp_min(self.squares.sum() / count - mean**2, 0.0)
