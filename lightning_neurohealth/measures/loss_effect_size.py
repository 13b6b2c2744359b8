"""How far the loss has gone lately, beside its noise."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.loss_relative_variance import SPANS
from lightning_neurohealth.statistics.series import Series


class LossEffectSize(Measure):
    """Cohen's d between the first and the second half of the last 5, 10 and 15 points of the window, or of as many as
    there are, ``[spans]``, no unit: |difference of means| / √(mean of the two variances). An odd number of points
    shares the middle one. NaN with fewer than three points.

    Below 0.2: no difference worth the name, a plateau at this scale; above 0.8: a large one, either way.

    Sources: technical deep dive (S2), Prechelt (1998).
    """

    def compute(self, loss: Series) -> Tensor:
        return torch.stack([_effect(loss.points[-span:]) for span in SPANS])


def _effect(points: Tensor) -> Tensor:
    half = (len(points) + 1) // 2
    if half < 2:
        return points.new_tensor(float("nan"))
    early, late = points[:half], points[-half:]
    far = (late.mean() - early.mean()).abs()
    noise = ((early.var() + late.var()) / 2).sqrt()
    return torch.where(far == 0, far, far / noise)
