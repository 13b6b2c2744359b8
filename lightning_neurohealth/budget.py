"""How often to measure so that watching costs no more than a share of the time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

clock = perf_counter
FADE = 0.5
"""What earlier windows count for at each new one: a few windows smooth the clock, and old speeds are forgotten."""
LEAST = 0.1
"""Part of the budget that is kept for steps where closing windows takes it all."""


class Budget:
    """Times whole training steps, measured ones against the others, by a clock that waits for no device.

    A measured step costs what it takes longer than the others, and closing a window what it takes. The cadence is the
    smallest at which both together stay within ``limit``. On a device that works behind the clock, a step ends when its
    work is queued; over many steps the queue's length cancels out.

    Attributes:
        limit: Share of the time of the bare run that may go into watching; ``None`` for no limit, and no timing.
        least: The smallest cadence: the user's, and 2 with a limit, for there must be steps to compare with.
        every: One step in so many is measured.
        share: What watching took in the last window, as a share of the bare run; ``None`` until that is known.
    """

    def __init__(self, limit: float | None, every: int) -> None:
        self.limit = limit
        self.least = self.every = every if limit is None else max(every, 2)
        self.share: float | None = None
        self._totals = [0.0] * 6
        self._window = [0.0] * 6
        self._since: float | None = None
        self._warm: set[bool] = set()

    def begin(self) -> None:
        """A training step begins; its second and later batches do not begin it anew."""
        if self.limit is not None and self._since is None:
            self._since = clock()

    def end(self, measured: bool) -> None:
        """It is over. The first of either kind does not count: it traces, compiles and allocates."""
        if self._since is None:
            return
        seconds, self._since = clock() - self._since, None
        if measured in self._warm:
            self._window[0 if measured else 2] += 1
            self._window[1 if measured else 3] += seconds
        self._warm.add(measured)

    def forget(self) -> None:
        """The step has failed."""
        self._since = None

    @contextmanager
    def closing(self, steps: int = 0) -> Iterator[None]:
        """Time what runs once a window; ``steps`` are those that it closes."""
        start = clock()
        try:
            yield
        finally:
            self._window[4] += clock() - start
            self._window[5] += steps

    def sums(self) -> list[float]:
        """Of this rank since the last call of ``adapt``, to be summed over ranks; nothing without a limit."""
        return [] if self.limit is None else list(self._window)

    def adapt(self, sums: Sequence[float]) -> None:
        """Choose the cadence of the next window from the sums over all ranks, so that all choose the same."""
        if self.limit is None:
            return
        self._window = [0.0] * 6
        self._totals = [FADE * total + new for total, new in zip(self._totals, sums, strict=True)]
        measured, measured_time, others, others_time, closing_time, closed = self._totals
        if not (measured and others and others_time):
            return
        bare = others_time / others
        more = max(measured_time / measured - bare, 0.0)
        closing = closing_time / closed if closed else 0.0
        self.share = (more / self.every + closing) / bare
        left = max(self.limit * bare - closing, LEAST * self.limit * bare)
        self.every = max(self.least, math.ceil(more / left * (1 - 1e-9)))
