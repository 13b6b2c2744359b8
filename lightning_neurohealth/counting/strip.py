"""Single numbers of many steps, kept until they are added in one call."""

from __future__ import annotations

import torch
from torch import Tensor

MANY = 64
"""Numbers that wait at most until they are added."""


class Strip:
    """One number each of some steps, as it was when it came.

    Args:
        device: Where they are to be.
        on_host: True where it is the processor that runs this: then nobody waits for a number, and to read it is
            quicker than to copy its tensor.

    Attributes:
        steps, places: Of each number.
    """

    def __init__(self, device: torch.device, on_host: bool) -> None:
        self.device, self.on_host = device, on_host
        self.steps: list[int] = []
        self.places: list[int] = []
        self._numbers: list[float | Tensor] = []

    def add(self, x: Tensor, step: int, place: int) -> None:
        """Keep the one number of ``x``."""
        self._numbers.append(x.item() if self.on_host and x.is_cpu else x.detach().clone())
        self.steps.append(step)
        self.places.append(place)

    def values(self) -> Tensor:
        """All numbers, float64 ``[numbers]``."""
        if not any(isinstance(x, Tensor) for x in self._numbers):
            return torch.tensor(self._numbers, dtype=torch.float64, device=self.device)
        tensors = [torch.as_tensor(x, device=self.device) for x in self._numbers]
        if any(x.dim() or x.dtype != tensors[0].dtype for x in tensors):
            tensors = [x.reshape(()).double() for x in tensors]
        return torch.stack(tensors).double()

    @property
    def full(self) -> bool:
        """True if there is no room for another."""
        return len(self.steps) >= MANY
