"""Rows that wait until there are more of them, to be added to states that are many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_neurohealth.native import Kernel, Plan, Targets
from lightning_neurohealth.statistics.base import Partials, Statistic

ELEMENTS = 1 << 17
"""Numbers of one layer that wait as a rule, half a megabyte of float32."""
FEW = 4
"""Times the memory of the states that rows take at most: narrow layers, of which there may be many, have small ones."""


class Held:
    """Rows of one signal of one subject, for its statistics with large states.

    To add some rows to a matrix takes as long as to read and to write all of it, so several steps are added in a row.
    What the current step has brought lies behind what counts already.

    Args:
        type: Of the numbers, float32 or float64.

    Attributes:
        most: Rows that wait as a rule.
    """

    def __init__(self, statistics: Sequence[Statistic], neurons: int, type: torch.dtype) -> None:
        self.statistics, self.neurons, self.type = statistics, neurons, type
        states = sum(getattr(one, name).nbytes for one in statistics for name in one.kinds)
        self.most = max(1, min(ELEMENTS, FEW * states // type.itemsize) // max(neurons, 1))
        self._memory = torch.empty(0, neurons, dtype=type)
        self._rows = 0
        self._counting: list[tuple[int, int]] = []
        self._new: list[tuple[int, int]] = []
        self._in_torch = [one for one in statistics if not one.native_sums()]
        self._in_c = [(one, name, s) for one in statistics for name, s in one.native_sums().items()]
        self._states: list[Tensor] = []
        self._plans: dict[int, Plan] = {}

    def room(self, rows: int, step: int) -> int:
        """The address of memory for some rows, behind all others."""
        end = self._rows + rows
        if end > len(self._memory):
            self._move(self._memory[: self._rows], max(end, self.most))
        place = self._memory.data_ptr() + self._rows * self.neurons * self.type.itemsize
        self._rows = end
        self._new.append((rows, step))
        return place

    def commit(self, kernel: Kernel) -> None:
        """What the step has brought counts."""
        new = sum(rows for rows, _ in self._new)
        self._counting += self._new
        self._new.clear()
        if self._rows + new > self.most:  # as much again would not fit
            self.settle(kernel)

    def discard(self) -> None:
        """It does not."""
        self._rows -= sum(rows for rows, _ in self._new)
        self._new.clear()

    def reset(self) -> None:
        """What counts does so no longer."""
        count = sum(rows for rows, _ in self._counting)
        self._counting.clear()
        self._move(self._memory[count : self._rows], self.most)

    def brought(self) -> Iterator[tuple[Statistic, Partials]]:
        """What the step brings to each statistic."""
        end = sum(rows for rows, _ in self._counting)
        for rows, step in self._new:
            begin, end = end, end + rows
            x = self._memory[begin:end].unsqueeze(-1)
            for one in self.statistics:
                yield one, one.partials(x, step)

    def settle(self, kernel: Kernel) -> None:
        """Add all rows that count to the states."""
        count = sum(rows for rows, _ in self._counting)
        if count:
            x = self._memory[:count]
            for one in self._in_torch:
                one.absorb(x, self._counting)
            self._count(kernel, x)
            self.reset()

    def _count(self, kernel: Kernel, x: Tensor) -> None:
        states = [getattr(one, name) for one, name, _ in self._in_c]
        if [id(state) for state in states] != [id(state) for state in self._states]:
            self._states, self._plans = states, {}
        plan = self._plans.get(len(x))
        if plan is None:
            targets = Targets([(s, state) for (_, _, s), state in zip(self._in_c, states, strict=True)])
            strides = (self.neurons, 0, 0, 1)
            plan = Plan((len(x), 1, 1, self.neurons), strides, self.type, targets)
            self._plans = {len(x): plan}  # as a rule as many come every time
        kernel.add(plan, x, 0, 1.0, 0)

    @torch.inference_mode(False)
    def _move(self, rows: Tensor, room: int) -> None:
        """Let there be so much room, with ``rows`` at its beginning, in memory that may be written to at any time."""
        if len(self._memory) != room:
            self._memory = torch.empty(room, self.neurons, dtype=self.type)
        self._rows = len(rows)
        self._memory[: self._rows] = rows.clone() if self._rows else rows
