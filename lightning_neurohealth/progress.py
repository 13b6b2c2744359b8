"""How the training loss goes, over the whole run so far, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean, median, pstdev

CAPACITY = 1024


@dataclass
class Progress:
    """The training loss as the rules see it.

    Attributes:
        steps, losses: Points so far; once 1,024 are full, neighbours are merged.
        recent: Losses of the last window.
        adversarial: True where several optimizers share the run, so that a loss that stays flat says nothing.
    """

    steps: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    adversarial: bool = False

    def add(self, losses: list[float], first_step: int, stride: int) -> None:
        """Take the losses of one window, each standing for ``stride`` steps."""
        self.recent = losses
        self.steps += [first_step + (i + 0.5) * stride for i in range(len(losses))]
        self.losses += losses
        while len(self.losses) > CAPACITY:
            pairs = range(0, len(self.losses) - 1, 2)
            self.losses = [(self.losses[i] + self.losses[i + 1]) / 2 for i in pairs]
            self.steps = [(self.steps[i] + self.steps[i + 1]) / 2 for i in pairs]

    @property
    def initial(self) -> float:
        """Loss at the start: the median of the first points, NaN before there is one."""
        return median(self.losses[:5]) if self.losses else math.nan

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
    def improving(self) -> bool:
        """True if the last window's second half lies below its first, by 5 % of the initial loss and by its noise."""
        half = len(self.recent) // 2
        if self.adversarial or half < 3 or not all(map(math.isfinite, self.recent)):
            return False
        before, after = self.recent[:half], self.recent[half:]
        error = math.hypot(pstdev(before), pstdev(after)) / math.sqrt(half)
        drop = fmean(before) - fmean(after)
        return drop > 0.05 * abs(self.initial) and drop > 2 * error

    @property
    def learning(self) -> bool:
        """True of a network that learns well: half of the initial loss is gone, or the loss falls fast now."""
        return self.fall >= 0.5 or (self.fall > 0 and self.improving)
