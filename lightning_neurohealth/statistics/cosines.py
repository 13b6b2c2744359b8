"""How alike the neurons of a layer are."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows

ELEMENTS = 1 << 22


class Cosines(Statistic):
    """Largest \\|cosine\\| between the rows of a neuron, all of them at once, and those of another neuron.

    Unlike other statistics it has to see all rows in one piece; over several pieces it is the largest of theirs. 0 for
    a neuron that is all zero or has no other beside it, NaN for one that is not finite, which the others do not see.
    At most four million cosines are held at a time; the largest of each neuron is computed anew in double precision.
    """

    together = True
    largest: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("largest", "max")

    def reduce(self, rows: Rows) -> Partials:
        x = rows.x
        vectors = x.movedim(1, 0).reshape(x.shape[1], -1)
        vectors = vectors.to(torch.promote_types(x.dtype, torch.float32))
        vectors = vectors / vectors.abs().amax(1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
        norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        vectors = torch.where(norms > 0, vectors / norms, 0.0)
        block = min(max(1, ELEMENTS // len(vectors)), len(vectors))
        room = vectors.new_empty(block, len(vectors))
        largest = []
        for start in range(0, len(vectors), block):
            some = vectors[start : start + block]
            # a product that is told where to write stays in full precision under autocast
            cosines = torch.mm(some, vectors.T, out=room[: len(some)]).abs_()
            cosines.diagonal(start).fill_(-1)
            nearest = vectors[cosines.argmax(1)].double()
            largest.append(torch.cosine_similarity(some.double(), nearest).abs().clamp_max(1.0))
        found = torch.cat(largest) if len(vectors) > 1 else norms.new_zeros(1, dtype=torch.float64)
        return {"largest": torch.where(norms.squeeze(1).isfinite(), found, torch.nan)}
