"""How a tensor changes, seen from a part of its rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_neurohealth.folding import Pick
from lightning_neurohealth.native import Kernel, Plan, Targets


class Change:
    """Keeps rows of tensors of one layout, and adds up what others are more than they.

    Args:
        x: Such a tensor, ``[outer, neurons, inner]``, in which ``thin`` takes the rows.
        targets: What is added to.
    """

    def __init__(self, x: Tensor, targets: Targets) -> None:
        self._pick = pick = Pick(x, None)
        self._copying = Plan(pick.shape, pick.strides, x.dtype, Targets([]))
        self._adding = Plan(pick.shape, pick.strides, x.dtype, targets, minus=True)
        kept = torch.float64 if x.dtype == torch.float64 else torch.float32
        self._before = torch.empty(math.prod(pick.shape[:3]), pick.shape[3], dtype=kept)
        self._offset = 0

    def keep(self, kernel: Kernel, x: Tensor, phase: int) -> None:
        """Keep rows as they are; ``phase`` says which."""
        self._offset = self._pick.offset(phase)
        kernel.add(self._copying, x, self._offset, 1.0, 0, self._before.data_ptr())

    def add(self, kernel: Kernel, x: Tensor, step: int) -> None:
        """Add up how they have changed."""
        kernel.add_changes(self._adding, x, self._offset, self._before, step)
