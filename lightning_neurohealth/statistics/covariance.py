"""How the neurons of a layer vary together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows

NEURONS = 256
ROWS = 2048
ALIGNED = 8
"""Numbers between two places of memory at which products are rounded alike."""
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
        some = self._some_neurons(self._some_rows(rows.x))
        return {"sums": some.sum(0), "squares": some.T @ some, "sampled": len(some)}

    def absorb(self, x: Tensor, batches: Sequence[tuple[int, int]]) -> None:
        counts = [count for count, _ in batches]
        if max(counts) > ROWS:
            some = [self._some_neurons(self._some_rows(part.unsqueeze(2))) for part in x.split(counts)]
        else:
            some = list(self._some_neurons(x).split(counts))
        for part in some:  # one after another, or a run that is cut and goes on would round otherwise
            if self.width % ALIGNED:
                part = part.clone()
            self.sums.add_(part.sum(0))
            torch.addmm(self.squares, part.T, part, out=self.squares)  # half of the memory's work of adding matrices
        self.sampled.add_(sum(map(len, some)))
        self.rows.add_(len(x))

    def _some_rows(self, x: Tensor) -> Tensor:
        """``[rows, neurons]`` of ``[outer, neurons, inner]``."""
        count, inner = x.shape[0] * x.shape[2], x.shape[2]
        if count > ROWS:
            row = (torch.arange(ROWS, device=x.device).double() * GOLDEN % 1.0 * count).long()
            return x[row // inner, :, row % inner]
        return x.squeeze(2) if inner == 1 else x.movedim(1, 2).flatten(0, 1)

    def _some_neurons(self, x: Tensor) -> Tensor:
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
