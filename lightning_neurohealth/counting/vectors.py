"""States behind one another, to which a step is added in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.native import Kernel
from lightning_neurohealth.statistics.base import EMPTY, Kind

LEAST = 1 << 13
"""Numbers in the first vector of a kind; each one after it is twice as long."""
MERGE: dict[Kind, Any] = {"min": torch.minimum, "max": torch.maximum}

Place = tuple[Tensor, Tensor]


class Vector:
    """States of one kind behind one another, and beside each of them what the current step brings to it.

    Args:
        decay: What they fade by at each measured step, ``None`` if they do not.
    """

    def __init__(self, kind: Kind, decay: float | None, size: int) -> None:
        self.kind, self.decay = kind, decay
        self._states = torch.full((size,), EMPTY[kind], dtype=torch.float64)
        self._step = self._states.clone()
        self.states, self.step = self._states[:0], self._step[:0]  # as far as they are taken
        self._fades = 0

    def place(self, size: int) -> Place | None:
        """Room for some states and for what a step brings to them; ``None`` if there is too little."""
        begin, end = len(self.states), len(self.states) + size
        if end > len(self._states):
            return None
        self.states, self.step = self._states[:end], self._step[:end]
        return self._states[begin:end], self._step[begin:end]

    def fade(self) -> None:
        """They do so when they are merged, or read."""
        self._fades += self.decay is not None

    def settle(self) -> None:
        """Bring the states up to date."""
        while self._fades and self.decay is not None:
            self.states.mul_(self.decay)
            self._fades -= 1

    def merge(self, kernel: Kernel) -> None:
        """What the step has brought counts."""
        if self.kind == "sum":
            fading = 1.0
            if self._fades and self.decay is not None:
                self._fades -= 1
                self.settle()
                fading = self.decay
            kernel.merge(self.states, self.step, fading)
        else:
            MERGE[self.kind](self.states, self.step, out=self.states)
            self.forget()

    def forget(self) -> None:
        """It does not."""
        self.step.fill_(EMPTY[self.kind])


def placed(vectors: list[Vector], kind: Kind, decay: float | None, size: int) -> Place:
    """Room in the last of ``vectors``, or in a new one."""
    place = vectors[-1].place(size) if vectors else None
    if place is None:
        vectors.append(Vector(kind, decay, max(size, LEAST << len(vectors))))
        place = vectors[-1].place(size)
    assert place is not None
    return place
