"""How far a neuron is from the copy of it, where there is one."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows

NEIGHBOURS = 4
STEPS = (5**0.5 / 2 - 0.5, 2**0.5)
"""Of a projection's direction: the fractional parts of multiples of an irrational number are as good as random, and
the same on every device."""


class Twins(Statistic):
    """Least ‖x_i − x_j‖ / max(‖x_i‖, ‖x_j‖) between the rows of a neuron, all of them at once, and those of another.

    Only the next four of the others in the order of each of two fixed projections are looked at: copies stand beside
    one another there, so that the cost is a few passes over the rows where all pairs would take their square. For a
    neuron without a near copy the number is an upper bound. 1 for a neuron that is all zero, not finite or alone.

    Like the cosines it has to see all rows in one piece; over several pieces it is the least of theirs.
    """

    together = True
    least: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("least", "min")

    def reduce(self, rows: Rows) -> Partials:
        x = rows.x
        vectors = x.movedim(1, 0).reshape(x.shape[1], -1)
        vectors = vectors.to(torch.promote_types(x.dtype, torch.float32))
        places = torch.arange(1, vectors.shape[1] + 1, dtype=torch.float64, device=x.device)
        least = torch.ones(len(vectors), dtype=torch.float64, device=x.device)
        for step in STEPS:
            direction = ((places * step).frac() - 0.5).to(vectors.dtype)
            # a product that is told where to write stays in full precision under autocast
            order = torch.mv(vectors, direction, out=vectors.new_empty(len(vectors))).argsort()
            least[order] = least[order].minimum(_along(vectors[order]))
        return {"least": least}


def _along(vectors: Tensor) -> Tensor:
    """Least distance of each to the next few before and behind it."""
    norms = torch.linalg.vector_norm(vectors, dim=1)
    least = torch.ones(len(vectors), dtype=torch.float64, device=vectors.device)
    for shift in range(1, min(NEIGHBOURS + 1, len(vectors))):
        apart = torch.linalg.vector_norm(vectors[shift:] - vectors[:-shift], dim=1)
        apart = (apart / norms[shift:].maximum(norms[:-shift])).double().nan_to_num(nan=1.0)
        least[shift:] = least[shift:].minimum(apart)
        least[:-shift] = least[:-shift].minimum(apart)
    return least
