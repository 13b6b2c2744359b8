"""Rows that wait until there are some more: what is summed together is summed faster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lightning_neurohealth.statistics.rows import ROOM, Rows
from lightning_neurohealth.statistics.slots import Slot
from lightning_neurohealth.statistics.workspace import Workspace

WAITING = 1 << 17
"""Elements that wait at most, half a megabyte of float32."""
Filled = tuple[tuple[Slot, ...], Rows]
"""Slots, and the rows of all of them side by side."""


class Waiting:
    """Rows of a step that are still to be reduced.

    A network's own arithmetic drives code and data of ours out of the processor's caches: reducing the tensors of many
    layers in one go takes half the time that one after another takes in between.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._rows: list[tuple[Slot, Tensor, bool]] = []
        self._elements = 0

    def add(self, slot: Slot, x: Tensor, nonnegative: bool) -> bool:
        """Let rows wait, whose memory is ours; true if there are enough now to be taken."""
        self._rows.append((slot, x, nonnegative))
        self._elements += x.numel()
        return self._elements > WAITING

    @property
    def any(self) -> bool:
        """True if some do."""
        return bool(self._rows)

    def clear(self) -> None:
        """Forget all."""
        self._rows, self._elements = [], 0

    def taken(self) -> Iterator[Filled]:
        """All that wait, equal layers together as far as they fit in one piece; nothing waits any more."""
        rows = self._rows
        self.clear()
        together: dict[Any, list[tuple[Slot, Tensor]]] = {}
        batches: Counter[Slot] = Counter()
        for slot, x, nonnegative in rows:
            batches[slot] += 1  # those of one layer are added one after another
            key = (slot.kind, nonnegative, x.shape, x.dtype, x.device, batches[slot])
            together.setdefault(key, []).append((slot, x))
        for (_, nonnegative, shape, *_), equal in together.items():
            most = max(1, ROOM // shape.numel())
            for start in range(0, len(equal), most):
                slots, parts = zip(*equal[start : start + most], strict=True)
                yield slots, Rows(parts, nonnegative, self._workspace)
