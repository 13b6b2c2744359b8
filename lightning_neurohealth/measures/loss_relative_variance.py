"""How much the loss varies lately."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.series import Series

SPANS = (5, 10, 15)


class LossRelativeVariance(Measure):
    """Var L / (mean(L)² + 1e-8) over the last 5, 10 and 15 points of the window, or as many as there are, ``[spans]``,
    no unit.

    Below 1e-4: flat at this scale. It says nothing of the direction, and with noisy batches nothing of a plateau.

    Sources: technical deep dive (S2), Prechelt (1998).
    """

    def compute(self, loss: Series) -> Tensor:
        recent = [loss.points[-span:] for span in SPANS]
        return torch.stack([((r - r.mean()) ** 2).mean() / (r.mean() ** 2 + 1e-8) for r in recent])
