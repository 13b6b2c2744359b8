"""Small classifiers, their data, and the truth about each neuron."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Multiplied(nn.Module):
    """Gives what ``inner`` gives, times a mask over the neurons, which lie on ``axis``."""

    def __init__(self, inner: nn.Module, axis: int, neurons: int) -> None:
        super().__init__()
        self.inner, self.axis, self.mask = inner, axis, torch.ones(neurons)

    def forward(self, *args: Any) -> Tensor:
        a = self.inner(*args)
        shape = [1] * a.dim()
        shape[self.axis] = -1
        return a * self.mask.view(shape)


def brute_force(model: nn.Module, path: str, axis: int, neurons: int, data: Any, loss: Any) -> np.ndarray:
    """Loss without each neuron minus loss with all, weighted by rows; ``path`` is what writes the activation."""
    model = copy.deepcopy(model).eval()
    masked = Multiplied(model.get_submodule(path), axis, neurons)
    model.set_submodule(path, masked)

    def total() -> float:
        losses = [(float(loss(model(x), y)), len(x)) for x, y in data]
        return sum(value * rows for value, rows in losses) / sum(rows for _, rows in losses)

    changes = []
    with torch.no_grad():
        for neuron in range(neurons):
            masked.mask = torch.ones(neurons)
            whole = total()
            masked.mask[neuron] = 0
            changes.append(total() - whole)
    return np.array(changes)


def mlp(act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), act(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 3)
    )


def classes(shape: tuple[int, ...] = (4,), rows: int = 20, batch: int = 8) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(rows, *shape, generator=draw), torch.randint(0, 3, (rows,), generator=draw)
    return list(zip(x.split(batch), y.split(batch), strict=True))
