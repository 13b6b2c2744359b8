"""Changes of a model that are made all or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Edit:
    """New values for some indices of one axis of a tensor; a number stands for a tensor full of it."""

    tensor: Tensor
    axis: int
    indices: Tensor
    values: Tensor | float

    def __post_init__(self) -> None:
        self.indices = self.indices.to(self.tensor.device)
        self.before = self.tensor.detach().index_select(self.axis, self.indices)
        values = self.values if isinstance(self.values, Tensor) else torch.full_like(self.before, self.values)
        self.after = values.to(self.tensor).reshape(self.before.shape)

    def write(self, values: Tensor) -> None:
        """Put ``values`` where this edit is about."""
        self.tensor.detach().index_copy_(self.axis, self.indices, values)


@torch.no_grad()
def make(edits: Iterable[Edit]) -> None:
    """Make all edits; if one fails, take back those before it."""
    made: list[Edit] = []
    try:
        for edit in edits:
            made.append(edit)
            edit.write(edit.after)
    except BaseException:
        for edit in reversed(made):
            edit.write(edit.before)
        raise
