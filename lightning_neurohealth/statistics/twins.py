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
    side_by_side = True
    least: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("least", "min")

    def reduce(self, rows: Rows) -> Partials:
        first = rows.parts[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        vectors = torch.stack([x.movedim(1, 0).reshape(x.shape[1], -1).to(dtype) for x in rows.parts])
        places = torch.arange(1, vectors.shape[2] + 1, dtype=torch.float64, device=first.device)
        least = torch.ones(vectors.shape[:2], dtype=torch.float64, device=first.device)
        begin = torch.arange(0, least.numel(), vectors.shape[1], device=first.device).unsqueeze(1)
        for step in STEPS:
            direction = ((places * step).frac() - 0.5).to(dtype)
            # a product that is told where to write stays in full precision under autocast
            projected = torch.mv(vectors.flatten(0, 1), direction, out=vectors.new_empty(least.numel()))
            order = projected.view_as(least).argsort(1)
            ordered = vectors.flatten(0, 1).index_select(0, (order + begin).view(-1)).view_as(vectors)
            least.scatter_(1, order, least.gather(1, order).minimum(_along(ordered)))
        return {"least": least.view(-1)}


def _along(vectors: Tensor) -> Tensor:
    """Least distance of each to the next few before and behind it in its layer, ``[layers, neurons]``."""
    norms = torch.linalg.vector_norm(vectors, dim=2)
    least = torch.ones(vectors.shape[:2], dtype=torch.float64, device=vectors.device)
    for shift in range(1, min(NEIGHBOURS + 1, vectors.shape[1])):
        apart = torch.linalg.vector_norm(vectors[:, shift:] - vectors[:, :-shift], dim=2)
        apart = (apart / norms[:, shift:].maximum(norms[:, :-shift])).double().nan_to_num(nan=1.0)
        least[:, shift:] = least[:, shift:].minimum(apart)
        least[:, :-shift] = least[:, :-shift].minimum(apart)
    return least
