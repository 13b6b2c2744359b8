"""How often a neuron's output falls into each of some bins."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_neurohealth.activations import Activation
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic
from lightning_neurohealth.statistics.rows import Rows

BINS = 64
SIZES = [2.0 ** (k / 2) for k in range(-16, 17)]
OCTAVES = [*(-size for size in reversed(SIZES)), *SIZES]


class Histogram(Statistic):
    """Rows in each bin, ``[neurons, bins]``; bins do not depend on data, so counts add over batches, windows and ranks.

    An activation with two bounds has 64 equal bins between them. Others have bins of half an octave on either side of
    0, from 2⁻⁸ to 2⁸, one for what is smaller and one for what is larger; bins beyond a bound are left out. NaN is in
    no bin.
    """

    large = True
    counts: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.edges = edges(subject.function)
        self.bins = len(self.edges) + 1
        # once, where the statistic is made, and of numbers that never were on a device
        self._counted = Sum(What.HISTOGRAM, *_guess(subject.function, self.edges), edges=tuple(self.edges.tolist()))
        self.state("counts", "sum", (self.neurons, self.bins))

    def reduce(self, rows: Rows) -> Partials:
        x = rows.x
        x = x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()
        self.edges = self.edges.to(x.device)
        nowhere = x.shape[1] * self.bins
        place = torch.bucketize(x, self.edges.to(x.dtype))
        place += torch.arange(0, nowhere, self.bins, device=x.device).view(1, -1, 1)
        place.masked_fill_(x.isnan(), nowhere)
        counts = torch.zeros(nowhere + 1, dtype=torch.float64, device=x.device)
        counts.scatter_add_(0, place.flatten(), counts.new_ones(()).expand(place.numel()))
        return {"counts": counts[:nowhere].view(x.shape[1], self.bins)}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "counts": self._counted}


def _guess(function: Activation, edges: Tensor) -> tuple[float, float]:
    """Where C looks for a bin first: of even ones the first edge and the width, else NaN and how many are left out."""
    if function.lower is not None and function.upper is not None:
        return float(edges[0]), float(edges[1] - edges[0])
    return math.nan, OCTAVES.index(float(edges[0]))


def edges(function: Activation) -> Tensor:
    """Where one bin ends and the next begins, float64; an edge belongs to the bin under it."""
    lower, upper = function.lower, function.upper
    if lower is not None and upper is not None:
        return torch.linspace(lower, upper, BINS + 1, dtype=torch.float64)[1:-1]
    grid = torch.tensor(OCTAVES, dtype=torch.float64)
    inside = grid[(grid > (-torch.inf if lower is None else lower)) & (grid < (torch.inf if upper is None else upper))]
    return inside if len(inside) else grid
