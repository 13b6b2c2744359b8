"""Memory for the rows that are being summed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Spread = tuple[Tensor, Tensor]


class Workspace:
    """Room for the rows of some layers in double precision, and for as many numbers that are computed of them.

    Who sums many tensors one after another does so in one workspace: its memory stays in the processor's cache. What is
    in it is there until the next rows are spread.
    """

    def __init__(self) -> None:
        self._memory: dict[torch.device, Tensor] = {}
        self._cut: dict[tuple[torch.device, int, int, int], tuple[Spread, list[Tensor]]] = {}

    def clear(self) -> None:
        """Give the memory back."""
        self._memory, self._cut = {}, {}

    def spread(self, parts: Sequence[Tensor]) -> Spread:
        """``[outer, neurons, inner]`` of each layer as float64 ``[layers, rows, neurons]``, and room of that shape."""
        first = parts[0]
        outer, neurons, inner = first.shape
        key = (first.device, len(parts), outer * inner, neurons)
        found = self._cut.get(key)
        if found is None:
            found = self._cut[key] = self._room(*key)
        for place, part in zip(found[1], parts, strict=True):
            if inner == 1:
                place.copy_(part.squeeze(2))
            else:
                place.view(outer, inner, neurons).copy_(part.movedim(1, 2))
        return found[0]

    def _room(self, device: torch.device, *shape: int) -> tuple[Spread, list[Tensor]]:
        size = shape[0] * shape[1] * shape[2]
        memory = self._memory.get(device)
        if memory is None or memory.shape[1] < size:
            memory = self._memory[device] = torch.empty(2, size, dtype=torch.float64, device=device)
            self._cut = {key: cut for key, cut in self._cut.items() if key[0] != device}
        wide, out = (half[:size].view(shape) for half in memory)
        return (wide, out), list(wide.unbind())
