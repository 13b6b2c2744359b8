"""How far a step's loss stands out."""

from __future__ import annotations

from statistics import fmean, median

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.series import Series

MEMORY = 50
ENOUGH = 10


class LossSpike(Measure):
    """Robust z-score of each loss of the window, ``[points]``, in units of the usual deviation: (L − m) / (1.4826 MAD),
    with the median m and the median absolute deviation of up to 50 points of the window before it; 0 for the first ten.
    Where more than half of the points are the same, 1.2533 times the mean absolute deviation takes its place.

    Above 10: a spike, unless such steps are usual in this run.

    Sources: robust statistics, Iglewicz and Hoaglin (1993); the factors make it a standard deviation of Gaussian noise.
    """

    def compute(self, loss: Series) -> Tensor:
        return loss.sums.new_tensor(z_scores(loss.points.tolist()))


def z_scores(losses: list[float], before: list[float] | None = None) -> list[float]:
    """Of each loss, against up to 50 before it; ``before`` are those of earlier windows."""
    seen = list(before or ())[-MEMORY:]
    scores = []
    for loss in losses:
        recent = [x for x in seen[-MEMORY:] if x - x == 0]
        score = 0.0
        if len(recent) >= ENOUGH:
            middle = median(recent)
            far = [abs(x - middle) for x in recent]
            spread = 1.4826 * median(far) or 1.2533 * fmean(far)
            # a loss that never changed leaves rounding as the only scale
            score = (loss - middle) / max(spread, 1e-6 * abs(middle), 1e-12)
        scores.append(score)
        seen.append(loss)
    return scores
