"""One number a step, kept as a bounded series."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows

CAPACITY = 512


class Series(Statistic):
    """The numbers of a window in the order of steps; over ranks, their mean at each step.

    Once 512 points are full, neighbours are merged and each point stands for twice as many steps, so that a window of
    any length costs the same. A NaN stays in its point.
    """

    counters: ClassVar[tuple[str, ...]] = ("length", "stride")
    sums: Tensor
    counts: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum", (CAPACITY,))
        self.state("counts", "sum", (CAPACITY,))
        self.stride = 1
        self.length = 0

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.x.reshape(()), "counts": 1}

    def merge(self, partials: Partials) -> None:
        """Add a number to the current step's point."""
        point = self.length // self.stride
        self.sums[point] += partials["sums"]
        self.counts[point] += partials["counts"]
        self.rows.add_(partials["rows"])

    def advance(self, steps: int = 1) -> None:
        """So many steps are over; on every rank alike, whether or not they had a number."""
        while steps:
            done = min(steps, CAPACITY * self.stride - self.length)
            self.length += done
            steps -= done
            if self.length == CAPACITY * self.stride:
                for state in (self.sums, self.counts):
                    merged = state.view(-1, 2).sum(1)
                    state.zero_()
                    state[: CAPACITY // 2] = merged
                self.stride *= 2

    def extend(self, values: Tensor, places: Sequence[int], steps: int) -> None:
        """Take ``values`` of some of the next ``steps`` steps, and advance.

        Args:
            places: The step of each value, ascending from 0; ``steps`` itself is the one that is still open.
        """
        done = taken = 0
        while True:
            room = CAPACITY * self.stride - self.length
            until = bisect_left(places, done + room)
            if until > taken:
                points = [(self.length + place - done) // self.stride for place in places[taken:until]]
                self.take_steps(values[taken:until], points)
            taken = until
            passed = min(room, steps - done)
            self.advance(passed)
            done += passed
            if done == steps and taken == len(places):
                return

    def take_steps(self, values: Tensor, steps: Sequence[int]) -> None:
        """Add many numbers, each to a point of its own choice."""
        points = torch.tensor(steps, device=values.device)
        self.sums.index_add_(0, points, values)
        self.counts.index_add_(0, points, torch.ones_like(values))
        self.rows.add_(len(steps))

    @property
    def points(self) -> Tensor:
        """The numbers so far, ``[points]``, each the mean over ``stride`` steps; steps without one are left out."""
        used = self.counts > 0
        return self.sums[used] / self.counts[used]
