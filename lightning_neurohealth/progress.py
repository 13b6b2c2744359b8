"""How the training loss goes, over the whole run so far, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from statistics import fmean, median
from typing import TypeVar, cast

Answer = TypeVar("Answer")

CAPACITY = 1024
START = 100
BLOWN_UP = 10.0
GUESSED = 1.5


@dataclass(frozen=True)
class Slope:
    """A straight line's slope and its standard error; NaN where there are too few points."""

    value: float = math.nan
    error: float = math.nan


def slope(ys: Sequence[float], xs: Sequence[float] | None = None) -> Slope:
    """Least-squares slope over the points whose y is finite; ``xs`` count from 0 if they are not given."""
    points = [(x, y) for x, y in zip(range(len(ys)) if xs is None else xs, ys, strict=True) if math.isfinite(y)]
    if len(points) < 2:
        return Slope()
    middle_x, middle_y = (fmean(axis) for axis in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    value = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
    if len(points) < 3:
        return Slope(value)
    left = sum((y - middle_y - value * (x - middle_x)) ** 2 for x, y in points)
    return Slope(value, math.sqrt(left / (len(points) - 2) / spread))


def log_slope(losses: Sequence[float]) -> float:
    """Slope of log L; where L is 0 or negative, of L over the mean of |L|, which is the same to first order."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if finite and min(finite) > 0:
        return slope([math.log(loss) if math.isfinite(loss) else math.nan for loss in losses]).value
    size = fmean(map(abs, finite)) if finite else 0.0
    return slope(losses).value / size if size else slope(losses).value


@dataclass(frozen=True)
class Fall:
    """What the loss has done since the start of the run, in shares of its size there.

    Attributes:
        share, error: How much of it is gone, below 0 if it has risen, and the standard error of that.
        learned: True if the loss has fallen by more than the limit, beyond doubt, from anything near the start.
        drift, drift_error: Change over the second half of the run, and its standard error.
    """

    share: float
    error: float
    learned: bool
    drift: float
    drift_error: float

    def drifts(self, share: float) -> bool:
        """True if the loss still moves, by more than ``share`` and beyond its noise."""
        return abs(self.drift) > max(share, 2.5 * self.drift_error)


def _kept(ask: Callable[..., Answer]) -> Callable[..., Answer]:
    """Keeps the answers of a progress until it is another: rules ask the same for each layer."""

    @wraps(ask)
    def answer(self: Progress, *args: float) -> Answer:
        now = (len(self.losses), len(self.start), tuple(self.recent), self.guesses, self.adversarial)
        if self.__dict__.get("_now") != now:
            self.__dict__.update(_now=now, _answers={})
        answers, asked = self.__dict__["_answers"], (ask.__name__, *map(repr, args))
        if asked not in answers:
            answers[asked] = ask(self, *args)
        return cast("Answer", answers[asked])

    return answer


@dataclass
class Progress:
    """The training loss as the rules see it.

    Attributes:
        steps, losses: Points so far; once 1,024 are full, neighbours are merged.
        recent: Losses of the last window.
        start: The first 100 points, which are never merged: after a long run, merged ones would hide the start.
        guesses: Losses of one who only guesses: the logarithm of the number of classes of each output layer.
        adversarial: True where several optimizers share the run, so that a loss that stays flat says nothing.
    """

    steps: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    guesses: tuple[float, ...] = ()
    adversarial: bool = False

    def add(self, losses: list[float], first_step: int, stride: int) -> None:
        """Take the losses of one window, each standing for ``stride`` steps."""
        self.recent = losses
        self.start += losses[: START - len(self.start)]
        self.steps += [first_step + (i + 0.5) * stride for i in range(len(losses))]
        self.losses += losses
        while len(self.losses) > CAPACITY:
            pairs = range(0, len(self.losses) - 1, 2)
            self.losses = [(self.losses[i] + self.losses[i + 1]) / 2 for i in pairs]
            self.steps = [(self.steps[i] + self.steps[i + 1]) / 2 for i in pairs]

    @property
    def initial(self) -> float:
        """Loss at the start: the median of the first points, NaN before there is one.

        Where the first steps threw it up, it is the first: to come down from there is not learning.
        """
        if not self.start:
            return math.nan
        return self.start[0] if self._thrown(self.start[0]) else median(self.start[:5])

    def _thrown(self, first: float) -> bool:
        """True if the first steps blew the loss up to ten times that of the first; to half as much again is enough
        where that was the loss of a guess, which is no matter of noise."""
        guessed = any(abs(first - guess) <= 0.15 * guess for guess in self.guesses)
        start = [loss for loss in self.start if math.isfinite(loss)][:5] or [math.nan]
        return 0 < (GUESSED if guessed else BLOWN_UP) * first < median(start)

    @property
    def now(self) -> float:
        """Loss at the end: the median of the last quarter of the last window."""
        return median(self.recent[-max(5, len(self.recent) // 4) :]) if self.recent else math.nan

    @property
    def fall(self) -> float:
        """Share of the initial loss that is gone; NaN where the loss says nothing."""
        if self.adversarial or not self.losses or not math.isfinite(self.now) or not self.initial:
            return math.nan
        return (self.initial - self.now) / abs(self.initial)

    @property
    @_kept
    def risen(self) -> bool:
        """True if the loss has more than doubled since the start, beyond what its noise and outliers could do.

        NaN and infinity count as risen. Where it only jitters around next to nothing, as after a resume, both ends
        overlap: three quarters of the recent losses must lie above three quarters of those at the start.
        """
        start = sorted(loss for loss in self.start[:20] if math.isfinite(loss))
        if not start or not self.recent:
            return False
        late = sorted(
            self.recent[-max(5, len(self.recent) // 4) :], key=lambda loss: loss if loss == loss else math.inf
        )
        usual, low, high = median(start), late[len(late) // 4], start[(3 * len(start)) // 4]
        if not math.isfinite(late[len(late) // 2]):
            return True
        return not self.adversarial and median(late) > usual + abs(usual) and low > high

    @property
    def improving(self) -> bool:
        """True if the last window's second half lies below its first, by 5 % of the initial loss and by its noise."""
        half = len(self.recent) // 2
        if self.adversarial or half < 3 or not all(map(math.isfinite, self.recent)):
            return False
        before, after = self.recent[:half], self.recent[half:]
        error = math.hypot(_deviation(before, 0), _deviation(after, 0)) / math.sqrt(half)
        drop = fmean(before) - fmean(after)
        return drop > 0.05 * abs(self.initial) and drop > 2 * error

    @property
    @_kept
    def learning(self) -> bool:
        """True of a network that learns well: half of the loss it started with is gone, or a fifth beyond doubt (where
        there is noise or an entropy that nothing can learn, no half can go), or the loss falls fast now.

        To come down to the loss of a guess, from weights that made it larger, is not learning.
        """
        if any(abs(self.now - guess) <= 0.05 * guess for guess in self.guesses):
            return False
        if self.fall >= 0.5 or (self.fall > 0 and self.improving):
            return True
        since = self.since_start(0.2) if self.fall >= 0.2 else None
        return since is not None and since.learned

    @_kept
    def since_start(self, limit: float, first: float = math.nan) -> Fall | None:
        """How the loss stands against its start; ``None`` where that cannot be told.

        Points near the start are noisy, and those further on may have learned already: a fall from any number of them
        counts as learning, but only a mean of many can show that there was none.

        Args:
            limit: Share of the loss whose fall is learning.
            first: Loss of the first step, NaN if it is not known.
        """
        points = [(step, loss) for step, loss in zip(self.steps, self.losses, strict=True) if math.isfinite(loss)]
        start = [loss for loss in self.start if math.isfinite(loss)]
        first = start[0] if math.isnan(first) and start else first
        recent = [loss for loss in self.recent if math.isfinite(loss)]
        if self.adversarial or len(points) < 20 or len(start) < 5 or not recent:
            return None
        late = [loss for _, loss in points[-max(10, len(points) // 4) :]]
        ends = [late] if len(recent) < 5 else [late, recent]
        if self._thrown(first):
            start = [first]  # to come down from where the first steps threw it is not learning
        spans = [k for k in (1, 5, 10, 20, 50, 100) if k <= min(len(start), max(10, len(points) // 4))]
        falls = [_fall(start[:k], end) for k in spans if k > 1 or len(start) == 1 for end in ends]
        # what lies above its start has come down from where a step threw it
        below = fmean(late) < max(first, median(start[:5]))
        learned = below and any(share > limit and share > 3 * error for share, error in falls)
        if first > fmean(late) + limit * abs(first) and first > fmean(late) + 4 * _deviation(late):
            learned = True
        share, error = falls[-len(ends)]
        half = points[len(points) // 2 :]
        line = slope([loss for _, loss in half], [step for step, _ in half])
        reach = (half[-1][0] - half[0][0]) / (abs(fmean(start)) or 1e-12)
        return Fall(share, error, learned, line.value * reach, line.error * reach)


def _fall(start: list[float], end: list[float]) -> tuple[float, float]:
    size = abs(fmean(start)) or 1e-12
    noise = _deviation(start if len(start) > 1 else end)
    error = math.hypot(noise / math.sqrt(len(start)), _deviation(end) / math.sqrt(len(end)))
    return (fmean(start) - fmean(end)) / size, error / size


def _deviation(values: Sequence[float], lost: int = 1) -> float:
    """Standard deviation; the module ``statistics`` computes it with fractions, a hundred times as slowly."""
    middle = fmean(values)
    return math.sqrt(math.fsum((x - middle) ** 2 for x in values) / (len(values) - lost))
