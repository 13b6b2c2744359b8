"""Rows that wait until there are some more: what is summed together is summed faster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.statistics.rows import ROOM, Rows
from lightning_neurohealth.statistics.slots import Slot

SMALL = 1 << 12
"""Elements of a tensor up to which calls cost more than arithmetic, so that those of equal layers share them."""
WAITING = 3 << 15
"""Elements that wait at most, 0.4 MB of float32: with what is computed of a block, less than a megabyte is held."""
Filled = tuple[tuple[Slot, ...], Rows]
"""Slots, and the rows of all of them side by side."""


class Waiting:
    """Rows of a step that are still to be reduced.

    A network's own arithmetic drives code and data of ours out of the processor's caches: reducing the tensors of many
    layers in one go takes half the time that one after another takes in between.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Slot, Tensor, bool]] = []
        self._elements = 0

    def add(self, slot: Slot, x: Tensor, nonnegative: bool) -> bool:
        """Let rows wait, whose memory is ours; true if there are enough now to be taken."""
        self._rows.append((slot, x, nonnegative))
        self._elements += x.numel()
        return self._elements > WAITING

    def clear(self) -> None:
        """Forget all."""
        self._rows, self._elements = [], 0

    def taken(self) -> Iterator[Filled]:
        """All that wait, equal layers together where they are small; nothing waits any more."""
        rows = self._rows
        self.clear()
        together: dict[Any, list[tuple[Slot, Tensor]]] = {}
        batches: Counter[Slot] = Counter()
        for slot, x, nonnegative in rows:
            if x.numel() > SMALL:
                yield (slot,), Rows(x, nonnegative)
            else:
                batches[slot] += 1  # those of one layer are added one after another
                key = (slot.key, nonnegative, x.shape, x.dtype, x.device, batches[slot])
                together.setdefault(key, []).append((slot, x))
        for (_, nonnegative, shape, *_), equal in together.items():
            most = max(1, ROOM // shape.numel())
            for start in range(0, len(equal), most):
                some = equal[start : start + most]
                yield tuple(slot for slot, _ in some), _side_by_side([x for _, x in some], nonnegative)


def _side_by_side(parts: list[Tensor], nonnegative: bool) -> Rows:
    return Rows(parts[0] if len(parts) == 1 else torch.cat(parts, 1), nonnegative, len(parts))
