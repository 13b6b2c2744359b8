"""Steps whose loss stands far above the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.measures.loss_spike import ENOUGH, MEMORY, z_scores
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.window import Past, Window

HISTORY = 500
"""Points by which it is told whether spikes are usual."""
FEW = 1
"""Of them, so many prove nothing: a second one in a hundred steps does."""


@dataclass(frozen=True, kw_only=True)
class LossSpike(RunRule):
    """What it finds: a step whose loss lies more than ten usual deviations above those before it, in a run in which
    such steps are rare; with the step and the place of its batch in the epoch.

    Why it hurts: the step taken on it may undo many others, and what is wrong with that batch will come again.

    Remedies: a look at the batch (outliers, units, labels, padding), gradient clipping, skipping such steps, a lower
    learning rate or a longer warm-up where the loss stays up afterwards.

    Sources: robust statistics, Iglewicz and Hoaglin (1993), for the score; Chowdhery et al. (2022), section 5.1, for
    spikes that come of a batch together with the weights at that step. Losses of small batches are skewed, and a large
    one is usual among them: it must stand out of their logarithms too. Ten deviations of Gaussian noise never come by
    chance; of noise with the tail of an exponential once in a thousand steps, but never in its logarithm.

    Attributes:
        height: Usual deviations above the median of up to 50 steps before.
        skew: The same of the logarithm of the loss, where all of them are above 0.
        share: Least height, as a share of the loss at the start: a network that is sure of itself leaps from next to
            nothing to little.
        rare: Share of the steps from which on spikes are usual in this run.
        alien: Times the loss at the start, and the usual loss, above which a spike is none of those, where nine of ten
            losses stay within ``tight``: batches that differ so little are none of which one costs a trained network
            several times what it costs an untrained one.
        tight: Times the usual loss that only one in ten may pass; of exponential noise one in four passes it.
        before: Steps from which the usual deviation is known well enough: of 30, it is known to a fifth.
    """

    windows: int = 1
    height: float = 10.0
    skew: float = 5.0
    share: float = 0.05
    rare: float = 0.01
    alien: float = 3.0
    tight: float = 2.0
    before: int = 30

    def judge(self, window: Window, past: list[Past], train_loss: Tensor) -> Iterable[Verdict]:
        losses = train_loss.tolist()
        if window.progress.adversarial or not losses:
            return
        earlier = [loss for entry in past for loss in entry.measures["train_loss"].tolist()][-HISTORY:]
        every = [*earlier, *losses]
        steps = max(1, round(window.steps / len(losses)))  # that a point stands for

        def step_of(place: int) -> int:
            return window.seen - window.steps + (place - len(earlier)) * steps

        spikes = self._spikes(every, len(earlier), abs(window.progress.initial))
        beginnings = [i for i in spikes if i - 1 not in spikes]
        late = [
            i
            for i in beginnings
            if i >= max(len(earlier), self.before) and not (steps == 1 and _ends_an_epoch(step_of(i), window))
        ]
        often = ""
        if len(beginnings) > max(FEW, self.rare * len(every)):
            alien = self._alien(every, beginnings, abs(window.progress.initial))
            late = [i for i in late if i in alien] if len(alien) <= len(every) / 10 else []
            often = f"; as far it leapt at {len(alien)} of the last {len(every)} steps" if steps == 1 else ""
        if not late:
            return
        worst = max(late, key=lambda i: every[i])
        score = z_scores(every[worst : worst + 1], every[:worst])[0]
        step = step_of(worst)
        after = enumerate(every[worst + 1 :], 1)
        length = next((n for n, loss in after if z_scores([loss], every[:worst])[0] <= self.height), None)
        place = _place(step, steps, window)
        more = f"; {len(late)} such leaps in this window" if len(late) > 1 else ""
        yield Verdict(
            severity=Severity.WARNING,
            value=score,
            threshold=self.height,
            message=f"the loss leapt to {every[worst]:.3g} at {place}, {score:.0f} usual deviations above the "
            f"{_usual(every, worst):.3g} before it{more}{often}",
            cause=_cause(length),
            remedy=_remedy(length, place),
        )

    def _spikes(self, losses: Sequence[float], begun: int, initial: float) -> set[int]:
        """Places of the losses that stand out; none if none of those from ``begun`` on does."""
        heights = z_scores(list(losses))
        found = [i for i, height in enumerate(heights) if self.height < height < math.inf]
        tall = [i for i in found if losses[i] - _usual(losses, i) > self.share * initial]
        if not tall or tall[-1] < begun:
            return set()
        logs = z_scores([math.log(loss) if loss > 0 else math.nan for loss in losses])
        return {i for i in tall if logs[i] > self.skew or min(_before(losses, i)) <= 0}

    def _alien(self, losses: Sequence[float], spikes: Sequence[int], initial: float) -> list[int]:
        usual = {i: _usual(losses, i) for i, loss in enumerate(losses) if i >= ENOUGH and math.isfinite(loss)}
        within = sum(0 < losses[i] <= self.tight * of for i, of in usual.items())
        if within < 0.9 * len(usual):
            return []
        return [i for i in spikes if losses[i] > self.alien * max(initial, usual[i])]


def _before(losses: Sequence[float], place: int) -> list[float]:
    return [loss for loss in losses[max(0, place - MEMORY) : place] if math.isfinite(loss)]


def _usual(losses: Sequence[float], place: int) -> float:
    return median(_before(losses, place))


def _ends_an_epoch(step: int, window: Window) -> bool:
    # the last batch is often smaller than the others, and its loss the noisier
    if math.isinf(window.trained) or not window.trained:
        return False
    length = round(window.seen / window.trained)
    return step % length == length - 1


def _place(step: int, steps: int, window: Window) -> str:
    """``"step 134 (batch 6 of epoch 2)"``, all counted from 0."""
    where = f"step {step}" if steps == 1 else f"steps {step} to {step + steps - 1}"
    if math.isinf(window.trained) or not window.trained:
        return where
    length = round(window.seen / window.trained)
    first = step % length * window.batches
    last = first + steps * window.batches - 1
    batches = f"batch {first}" if first == last else f"batches {first} to {last}"
    return f"{where} ({batches} of epoch {step // length})"


def _cause(length: int | None) -> str:
    if length == 1:
        return "it was back at the next step, before any weight could have recovered: that batch is unlike the others"
    back = f"it came back after {length} steps" if length else "it has not come back by the end of the window"
    return f"{back}: the weights were thrown by the step before it, or the data have changed"


def _remedy(length: int | None, place: str) -> str:
    clip = "clip the gradient norm (Trainer(gradient_clip_val=1.0))"
    if length == 1:
        return f"look at the data of {place}: outliers, units, labels, padding; {clip} so that no batch can do harm"
    return (
        f"{clip}, lower the learning rate or warm it up longer, and look whether something else changed at {place}: "
        "a schedule, a data source, the loss itself"
    )
