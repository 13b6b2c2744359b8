"""How the neurons of a layer vary together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows

NEURONS = 256
ROWS = 2048
GOLDEN = 0.6180339887498949


class Covariance(Statistic):
    """Σx and Σxxᵀ over sampled rows and neurons: at most 256 neurons, evenly spaced, and 2,048 rows a batch.

    Multiples of the golden ratio spread the rows evenly without a period that could fall in with that of an image.
    """

    large = True
    together = True
    sums: Tensor
    squares: Tensor
    sampled: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.width = min(self.neurons, NEURONS)
        self.state("sums", "sum", (self.width,))
        self.state("squares", "sum", (self.width, self.width))
        self.state("sampled", "sum", ())

    def reduce(self, rows: Rows) -> Partials:
        some = self._sampled(rows.x)
        return {"sums": some.sum(0), "squares": some.T @ some, "sampled": len(some)}

    def absorb(self, x: Tensor, batches: Sequence[tuple[int, int]]) -> None:
        # one batch after another, or a run that is cut and goes on would round otherwise
        some = [self._sampled(rows.unsqueeze(2)) for rows in x.split([count for count, _ in batches])]
        for rows in some:
            self.sums.add_(rows.sum(0))
            torch.addmm(self.squares, rows.T, rows, out=self.squares)  # half of the memory's work of adding matrices
        self.sampled.add_(sum(map(len, some)))
        self.rows.add_(len(x))

    def _sampled(self, x: Tensor) -> Tensor:
        count, inner = x.shape[0] * x.shape[2], x.shape[2]
        if count > ROWS:
            row = (torch.arange(ROWS, device=x.device).double() * GOLDEN % 1.0 * count).long()
            x = x[row // inner, :, row % inner]
        elif inner == 1:
            x = x.squeeze(2)
        else:
            x = x.movedim(1, 2).flatten(0, 1)
        if self.neurons % self.width == 0:
            x = x[:, :: self.neurons // self.width]
        else:
            x = x[:, torch.arange(self.width, device=x.device) * self.neurons // self.width]
        return x.double()

    @property
    def spectrum(self) -> Tensor:
        """Variances along the principal axes, ascending, ``[width]``; 0 below 1e-12 of the largest mean square.

        NaN where an activation was not finite.
        """
        mean, squares = self.sums / self.sampled, self.squares / self.sampled
        matrix = squares - mean.outer(mean)
        if not matrix.isfinite().all():
            return torch.full_like(mean, torch.nan)
        variances = torch.linalg.eigvalsh(matrix)
        return torch.where(variances > 1e-12 * squares.diagonal().max(), variances, 0.0)
