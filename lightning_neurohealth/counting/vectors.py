"""States behind one another, to which a step is added in one call."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_neurohealth.native import Brought, Kernel
from lightning_neurohealth.statistics.base import EMPTY, Kind

LEAST = 1 << 13
"""Numbers in the first vector of a kind; each one after it is twice as long."""

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

    def settle(self, but: int = 0) -> None:
        """Bring the states up to date, ``but`` for some times that they have faded."""
        while self._fades > but and self.decay is not None:
            self.states.mul_(self.decay)
            self._fades -= 1

    @property
    def fading(self) -> float:
        """What they are multiplied with when a step is added to them, once for each time that is asked for."""
        self.settle(but=1)
        faded, self._fades = self._fades, 0
        return self.decay if faded and self.decay is not None else 1.0

    def empty(self) -> None:
        """What was counted so far does not."""
        self.states.fill_(EMPTY[self.kind])

    def forget(self) -> None:
        """What the step has brought does not count."""
        self.step.fill_(EMPTY[self.kind])


class Vectors:
    """The states of many statistics, and beside them sizes of signals in this step, each a sum and of how many."""

    def __init__(self) -> None:
        self._states: dict[tuple[Kind, float | None], list[Vector]] = {}
        self._sizes: list[Vector] = []
        self._brought: Brought | None = None
        self._fading: list[tuple[int, Vector]] = []

    def place(self, kind: Kind, decay: float | None, size: int) -> Place:
        """Room for some states, and for what a step brings to them."""
        return self._place(self._states.setdefault((kind, decay), []), kind, decay, size)

    def place_for_size(self) -> Tensor:
        """Room for the size of one more signal."""
        return self._place(self._sizes, "sum", None, 2)[1]

    def _place(self, vectors: list[Vector], kind: Kind, decay: float | None, size: int) -> Place:
        self._brought = None
        place = vectors[-1].place(size) if vectors else None
        if place is None:
            vectors.append(Vector(kind, decay, max(size, LEAST << len(vectors))))
            place = vectors[-1].place(size)
        assert place is not None
        return place

    def _all(self) -> Iterator[Vector]:
        for vectors in self._states.values():
            yield from vectors

    @property
    def sizes(self) -> Tensor:
        """Those of this step, ``[signals, 2]``; a copy."""
        sizes = [vector.step.view(-1, 2) for vector in self._sizes]
        return sizes[0].clone() if len(sizes) == 1 else torch.cat([torch.zeros(0, 2, dtype=torch.float64), *sizes])

    def empty(self, averages: bool) -> None:
        """Forget all that was counted, exponential averages too or not."""
        for vector in self._all():
            if averages or vector.decay is None:
                vector.empty()

    def fade(self) -> None:
        """Exponential averages fade by one measured step."""
        for _, vector in self._parts()[1]:
            vector.fade()

    def settle(self) -> None:
        """Bring all states up to date."""
        for _, vector in self._parts()[1]:
            vector.settle()

    def commit(self, kernel: Kernel) -> None:
        """What the step has brought counts."""
        brought, fading = self._parts()
        for place, vector in fading:
            brought.fade(place, vector.fading)
        kernel.merge(brought)

    def discard(self) -> None:
        """It does not."""
        for vector in (*self._all(), *self._sizes):
            vector.forget()

    def _parts(self) -> tuple[Brought, list[tuple[int, Vector]]]:
        """What one call adds, and which parts of it fade."""
        if self._brought is None:
            vectors = list(self._all())
            self._brought = Brought(
                [*((v.kind, v.states, v.step) for v in vectors), *((v.kind, None, v.step) for v in self._sizes)]
            )
            self._fading = [(place, vector) for place, vector in enumerate(vectors) if vector.decay is not None]
        return self._brought, self._fading
