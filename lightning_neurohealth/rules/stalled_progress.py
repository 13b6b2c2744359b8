"""A loss that fell and falls no more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.progress import Progress, slope
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.evidence import median_snr, of_all, trained_matrices
from lightning_neurohealth.window import Past, Window

NOISE = 1.5
STEADY = 1.1


@dataclass(frozen=True, kw_only=True)
class StalledProgress(RunRule):
    """What it finds: a training loss that has fallen since the start, but not over the last third of the run, several
    windows at least, at a learning rate that is as large as ever.

    Why it hurts: the steps cost as much as before and bring nothing.

    Remedies: decay the learning rate, which lets the loss settle below where its noise holds it; stop, if it does not
    fall then; if it has risen, go back to the best weights and look what changed.

    Sources: technical deep dive (S2), whose slope of less than 0.001 in log loss calls every long run stalled; Smith
    et al. (2018) for the noise that a learning rate keeps up. Beside the length of the run, no slope is too small: what
    falls beyond its own noise makes progress, as language models do by a few per cent in the last third. A loss that
    is a few per cent of what it was has arrived; a schedule that has begun to decay the rate is a remedy on its way;
    one that raises it may raise the loss. A loss of both signs at the start, as a policy gradient's, is no distance
    from anything: it may rise while the policy improves.

    Attributes:
        stretch: Windows without progress, at least; where a third of the run is longer, that.
        steps: Training steps in them, at least.
        still: Share of all that was gained that two standard errors may hide: more noise proves nothing.
        arrived: Share of the loss at the start at which it has arrived.
        learned: Share of the loss at the start that must have gone before: else it is a plateau.
    """

    stretch: int = 5
    steps: int = 100
    still: float = 0.05
    arrived: float = 0.05
    learned: float = 0.05

    def judge(
        self,
        window: Window,
        past: list[Past],
        layers: dict[str, Layer],
        parameters: Parameters,
        train_loss: Tensor,
        update_ratio: dict[str, Tensor] | None = None,
        gradient_norm: dict[str, Tensor] | None = None,
        gradient_snr: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        progress = window.progress
        if progress.adversarial or progress.improving or len(past) < self.stretch:
            return
        if min(progress.start, default=0.0) < 0 < max(progress.start, default=0.0):
            return
        begun = min(past[-self.stretch].window.seen, round(window.seen * 2 / 3))
        names = trained_matrices(layers, parameters)
        stall = _stall(progress, begun)
        if stall is None or window.seen - begun < self.steps or not _steady(window, past, update_ratio, names):
            return
        gained = stall.start - stall.least
        if gained < self.learned * abs(stall.start) or gained < 3 * stall.least_error:
            return
        if 0 <= stall.level < self.arrived * stall.start or not stall.flat(self.still * gained):
            return
        cause, remedy = _why(stall, window, of_all(gradient_norm or {}, names), median_snr(gradient_snr, names, past))
        yield Verdict(
            severity=Severity.WARNING,
            value=stall.fall / gained,
            threshold=0.0,
            message=f"over the last {window.seen - begun} steps the loss has not fallen: it is "
            f"{stall.level:.3g} (change {-stall.fall:+.2g} ± {stall.error:.1g}), after {stall.start:.3g} at the start "
            f"and {stall.least:.3g} at its best",
            cause=cause,
            remedy=remedy,
        )


@dataclass(frozen=True)
class _Stall:
    """The loss at the start, at its best with the standard error of that, and over the stretch that is judged."""

    start: float
    least: float
    least_error: float
    level: float
    fall: float
    error: float
    best: float
    """Step of the best."""

    def flat(self, resolution: float) -> bool:
        """True if it has not fallen beyond its noise, and the noise lets ``resolution`` be seen."""
        return self.fall <= 2 * self.error and self.fall + 2 * self.error < resolution

    @property
    def risen(self) -> bool:
        """True if the best lies behind, and not by chance."""
        return self.level - self.least > max(4 * self.least_error, 0.1 * (self.start - self.least))


def _stall(progress: Progress, begun: int) -> _Stall | None:
    """The loss from step ``begun`` on beside all of it; ``None`` where there are too few numbers."""
    points = [(s, x) for s, x in zip(progress.steps, progress.losses, strict=True) if math.isfinite(x)]
    late = [(s, x) for s, x in points if s >= begun]
    if len(late) < 20 or not math.isfinite(progress.initial):
        return None
    losses = [x for _, x in late]
    line = slope(losses, [s for s, _ in late])
    span = late[-1][0] - late[0][0]
    size = max(10, len(points) // 20)
    chunks = [points[i : i + size] for i in range(0, len(points) - size + 1, size)]
    best = min(chunks, key=lambda chunk: fmean(x for _, x in chunk))
    values = [x for _, x in best]
    return _Stall(
        start=progress.initial,
        least=fmean(values),
        least_error=pstdev(values) / math.sqrt(size),
        level=fmean(losses),
        fall=-line.value * span,
        error=line.error * span,
        best=fmean(s for s, _ in best),
    )


def _steady(window: Window, past: list[Past], update_ratio: Mapping[str, Tensor] | None, names: Sequence[str]) -> bool:
    """True if the learning rate is what it always was; where it is not known, if a step moves the weights as far."""
    rates = [entry.window.learning_rate for entry in past] + [window.learning_rate]
    if not any(map(math.isnan, rates)):
        return max(rates) <= STEADY * rates[-1] and rates[-1] <= STEADY * min(rates[len(rates) // 2 :])
    earlier = [of_all(entry.measures.get("update_ratio", {}), names) for entry in past[-5:]]
    now = of_all(update_ratio or {}, names)
    return now > 0 and all(1 / 3 < before / now < 3 for before in earlier)


def _why(stall: _Stall, window: Window, norm: float, snr: float) -> tuple[str, str]:
    """Cause and remedy."""
    rate = "the learning rate" + ("" if math.isnan(window.learning_rate) else f" ({window.learning_rate:.2g})")
    if norm == 0:
        return (
            "the gradient of most weight matrices is exactly 0: they are no longer trained",
            "look for detach(), no_grad(), a frozen part or dead layers between the weights and the loss",
        )
    if stall.risen:
        return (
            f"the loss was at its best around step {stall.best:.0f} and has risen since: a step too large, or the "
            "data, the labels or the loss have changed",
            f"go back to the weights of about step {stall.best:.0f}, look what changed there, lower {rate} and clip "
            "the gradient norm",
        )
    noise = f"; gradients are noise ({snr:.2g} times what chance gives)" if snr < NOISE else ""
    return (
        f"{rate} is as large as ever: its steps keep the loss above where it could settle, or the network has "
        f"converged{noise}",
        f"decay {rate} tenfold (a cosine or ReduceLROnPlateau); if the loss does not fall then, stop here, or take a "
        "larger network or batch",
    )
