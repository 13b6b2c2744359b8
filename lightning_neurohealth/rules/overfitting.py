"""A validation loss that rises while the training loss falls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.progress import Progress, slope
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.window import Window

DOUBT = 4.0


@dataclass(frozen=True, kw_only=True)
class Overfitting(RunRule):
    """What it finds: a validation loss that has risen to 1.3 times its least and has been rising over at least three
    evaluations, while the training loss falls.

    Why it hurts: from the least on, every step makes the model worse on data that it has not seen.

    Remedies: keep the checkpoint of the least validation loss and stop there; more data or augmentation, weight
    decay, dropout, a smaller model, a look at wrong labels.

    Sources: technical deep dive (S2), Prechelt (1998), whose criterion GL is this ratio, Caruana et al. (2001). S2's
    relative gap above 0.5 flags half of all healthy runs, as the training loss goes to 0: the gap counts for nothing
    here. Where the loss jitters, least and present loss are medians of three evaluations, and four times the jitter
    apart: of many noisy ones the least is low by luck. A classifier that is right and ever more sure of itself passes
    1.3 times next to nothing: a rise is held against at least a tenth of what the validation loss had fallen.

    Attributes:
        warning, serious, critical: Times the least validation loss.
        evaluations: Evaluations since the least.
        fallen: Share of the fall of the validation loss that a rise is held against at least.
    """

    windows: int = 1
    warning: float = 1.2
    serious: float = 1.3
    critical: float = 2.0
    evaluations: int = 3
    fallen: float = 0.1
    statistical = False

    def judge(self, window: Window, validation_history: Tensor, train_loss: Tensor) -> Iterable[Verdict]:
        losses = validation_history.tolist()
        if window.progress.adversarial or len(losses) < self.evaluations + 1 or not all(map(math.isfinite, losses)):
            return
        jitter = _jitter(losses)
        smooth = _smooth(losses, jitter)
        least, now = min(smooth), smooth[-1]
        at = smooth.index(least)
        start = max(losses[0], window.progress.initial if math.isfinite(window.progress.initial) else losses[0])
        scale = max(abs(least), self.fallen * (start - least))
        if not scale or len(losses) - 1 - at < self.evaluations or not _rises(smooth[at:], losses[at:]):
            return
        times = 1 + (now - least) / scale
        if now - least < DOUBT * jitter:
            return
        train = _train(window.progress, (at + 1) / len(losses), 1 / len(losses))
        if times < self.warning or train is None:
            return
        severity = Severity(1 + (times >= self.serious) + (times >= self.critical))
        before, after = train
        yield Verdict(
            severity=severity,
            value=times,
            threshold=(self.warning, self.serious, self.critical)[severity - 1],
            message=f"the validation loss has risen from {least:.3g} at evaluation {at + 1} to {now:.3g} at evaluation "
            f"{len(losses)}, while the training loss went from {before:.3g} to {after:.3g}",
            cause="what lowers the training loss since then holds for the training data alone: the model learns it by "
            f"heart (validation is now {now - after:.3g} above training)",
            remedy=f"keep the weights of evaluation {at + 1} (ModelCheckpoint and EarlyStopping on the validation "
            f"loss, mode='min', patience {self.evaluations}); to get further: more data or augmentation, weight "
            "decay or dropout, a smaller model, and a look for wrong labels",
            certain=True,
        )


def _jitter(losses: Sequence[float]) -> float:
    """Standard deviation of an evaluation around the curve, from second differences, which no trend changes."""
    bends = [before - 2 * x + after for before, x, after in zip(losses, losses[1:], losses[2:], strict=False)]
    return median(map(abs, bends)) / (0.6745 * math.sqrt(6))


def _smooth(losses: Sequence[float], jitter: float) -> list[float]:
    """Each the median of itself and its neighbours, unless they follow a smooth curve as it is."""
    if jitter < 0.02 * abs(median(losses)):
        return list(losses)
    inner = [median(losses[i - 1 : i + 2]) for i in range(1, len(losses) - 1)]
    return [losses[0], *inner, median(losses[-3:])]


def _rises(smooth: Sequence[float], losses: Sequence[float]) -> bool:
    """True if the losses since the least go up beyond their noise, and have not come down again."""
    line = slope(losses)
    up = line.value > 0 and not line.value < 3 * line.error
    return up and smooth[-1] - smooth[0] > 0.7 * (max(smooth) - smooth[0])


def _train(progress: Progress, then: float, span: float) -> tuple[float, float] | None:
    """Training loss at that share of the run and now, if it has fallen beyond its noise or is next to 0."""
    points = [(s, x) for s, x in zip(progress.steps, progress.losses, strict=True) if math.isfinite(x)]
    if len(points) < 10:
        return None
    end = points[-1][0]
    number = max(5, round(len(points) * span))
    early = [x for _, x in sorted(points, key=lambda point: abs(point[0] - then * end))[:number]]
    late = [x for _, x in points[-number:]]
    error = math.hypot(stdev(early), stdev(late)) / math.sqrt(number)
    before, after = fmean(early), fmean(late)
    learned = 0 <= after < 0.05 * progress.initial
    return (before, after) if before - after > 2 * error or learned else None
