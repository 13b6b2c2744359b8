"""Gradients that leap or grow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.evidence import blow_up
from lightning_neurohealth.window import Past, Window

ABOVE = "each step makes the next gradient larger: the learning rate is above what the loss can bear"


@dataclass(frozen=True, kw_only=True)
class ExplodingGradients(RunRule):
    """What it finds: a global gradient norm that leaps to more than 100 times its running median again and again
    (once: a warning), that grows from step to step a thousandfold, or that is huge while the loss rises. Where all is
    over between two measured steps, the loss tells: it is known of every step, and one that grows a thousandfold
    before it overflows has gradients that do so too.

    Why it hurts: one such step throws the weights far from where they were.

    Remedies: clip the global norm, a lower learning rate or a longer warm-up, normalisation, a look at the batch.

    Sources: Pascanu et al. (2013). The seeds' absolute bounds of 5 and 10 depend on the loss: healthy regression has
    norms of 9,000.

    Attributes:
        leap: Times the running median.
        memory: Measured steps of the running median.
        repeated: Leaps in this window, or within as many measured steps as the memory holds, from which on it is
            SERIOUS.
        growth: Growth over steps of which each is larger than the one before.
        climbing: How many such steps in a row, where they do not end in NaN: of six that come as chance has it, one
            stretch in 720 is in order.
        huge: Norm that is huge if the loss has doubled since the start.
    """

    windows: int = 1
    leap: float = 100.0
    memory: int = 50
    repeated: int = 3
    growth: float = 1e3
    climbing: int = 6
    huge: float = 1e3

    def judge(
        self, window: Window, past: list[Past], global_gradient_norm: Tensor, train_loss: Tensor | None = None
    ) -> Iterable[Verdict]:
        points = global_gradient_norm.tolist()
        finite = [p for p in points if math.isfinite(p)]
        if not finite:
            return
        clip = "clip the global norm (Trainer(gradient_clip_val=1.0)), lower the learning rate or warm it up longer"
        before = [p for entry in past for p in entry.measures["global_gradient_norm"].tolist() if math.isfinite(p)]
        earlier = before[-self.memory :]
        climb = _climb(earlier, points)
        breaks, rises = len(finite) < len(points), window.progress.risen
        if len(climb) >= (3 if breaks else self.climbing) and climb[-1] > self.growth * climb[0] and (breaks or rises):
            yield Verdict(
                severity=Severity.CRITICAL,
                value=climb[-1] / climb[0] if climb[0] else math.inf,
                threshold=self.growth,
                message=f"the gradient norm grew from {climb[0]:.2g} to {climb[-1]:.2g} over {len(climb)} "
                "measured steps",
                cause=ABOVE,
                remedy=clip,
                immediate=True,
            )
            return
        losses = _losses(past, train_loss)
        if len(losses) > 1 and losses[-1] > self.growth * losses[0]:
            yield Verdict(
                severity=Severity.CRITICAL,
                value=losses[-1] / losses[0],
                threshold=self.growth,
                message=f"the loss grew from {losses[0]:.2g} to {losses[-1]:.2g} over {len(losses)} steps and then "
                "overflowed",
                cause=ABOVE,
                remedy=clip,
                immediate=True,
            )
            return
        middle = median(finite)
        if rises and middle > self.huge and len(finite) > 3:
            yield Verdict(
                severity=Severity.SERIOUS,
                value=middle,
                threshold=self.huge,
                message=f"the gradient norm is {middle:.3g} while the loss has risen from "
                f"{window.progress.initial:.3g} to "
                f"{window.progress.now:.3g}",
                cause="the steps are too large for the loss: it rises with each of them",
                remedy=clip,
            )
            return
        # a window may hold a few measured steps only: repeated is what comes again within the memory
        leaps = self._leaps(before[-2 * self.memory :], finite)
        if any(place >= 0 for place in leaps):
            number = max(len(finite), min(self.memory, len(before) + len(finite)))
            leaps = {place: times for place, times in leaps.items() if place >= len(finite) - number}
            yield Verdict(
                severity=Severity.SERIOUS if len(leaps) >= self.repeated else Severity.WARNING,
                value=max(leaps.values()),
                threshold=self.leap,
                message=f"the gradient norm leapt to more than {self.leap:g} times its running median on "
                f"{len(leaps)} of the last {number} measured steps, up to {max(leaps.values()):.3g} times",
                cause="single batches with a gradient far larger than the rest: outliers in the data, or cliffs "
                "in the loss",
                remedy=clip + ", and look at the batches of those steps",
            )

    def _leaps(self, earlier: list[float], points: list[float]) -> dict[int, float]:
        """How many times the running median, by place; those of ``earlier`` are below 0."""
        leaps, known = {}, [*earlier, *points]
        for place in range(10, len(known)):
            usual = median(known[max(0, place - self.memory) : place])
            if usual > 0 and known[place] > self.leap * usual:
                leaps[place - len(earlier)] = known[place] / usual
        return leaps


def _losses(past: list[Past], train_loss: Tensor | None) -> list[float]:
    before = past[-1].measures.get("train_loss") if past else None
    parts = [loss.tolist() for loss in (before, train_loss) if loss is not None]
    return blow_up([loss for part in parts for loss in part])


def _climb(earlier: list[float], points: list[float]) -> list[float]:
    """The stretch of the largest growth in which each point is above the one before, and that ends in ``points``."""
    best: list[float] = []
    stretch: list[float] = []
    for i, point in enumerate([*earlier, *points]):
        if not math.isfinite(point):
            break
        stretch = [*stretch, point] if stretch and point > stretch[-1] else [point]
        now = i >= len(earlier)
        if now and len(stretch) > 1 and (not best or stretch[-1] * best[0] > best[-1] * stretch[0]):
            best = stretch
    return best
