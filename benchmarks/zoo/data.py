"""Small made-up tasks that each kind of network can learn in a few hundred steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROWS = 2048


def points(rows: int = ROWS, classes: int = 5, dims: int = 20) -> tuple[Tensor, Tensor]:
    """Three Gaussian clouds a class, ``[rows, dims]``."""
    y = torch.randint(classes, (rows,))
    clouds = 1.2 * torch.randn(classes, 3, dims)
    return clouds[y, torch.randint(3, (rows,))] + torch.randn(rows, dims), y


def images(rows: int = ROWS, size: int = 8) -> tuple[Tensor, Tensor]:
    """A bright bar in noise, of one of four directions, ``[rows, 1, size, size]``."""
    y = torch.randint(4, (rows,))
    across = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    down, right = torch.meshgrid(across, across, indexing="ij")
    angle = y.float()[:, None, None] * math.pi / 4
    distance = (down * angle.cos() - right * angle.sin() + torch.randn(rows, 1, 1)).abs()
    return (2 * (distance < 1).float() + 0.5 * torch.randn(rows, size, size))[:, None], y


def signals(rows: int = ROWS, length: int = 32) -> tuple[Tensor, Tensor]:
    """Waves of one of four frequencies in three channels, ``[rows, 3, length]``."""
    y = torch.randint(4, (rows,))
    time = torch.arange(length) * 2 * math.pi / length
    phase = 2 * math.pi * torch.rand(rows, 3, 1)
    return torch.sin((1.0 + y)[:, None, None] * time + phase) + 0.3 * torch.randn(rows, 3, length), y


def sentences(rows: int = ROWS, words: int = 40, length: int = 10) -> tuple[Tensor, Tensor]:
    """Words of which a few are frequent and most are rare, ``[rows, length]``; the class is in some of them."""
    y = torch.randint(4, (rows,))
    frequency = 1 / torch.arange(1.0, words + 1)
    x = torch.multinomial(frequency, rows * length, replacement=True).view(rows, length)
    told = torch.rand(rows, length) < 0.4
    return torch.where(told, 4 * (x // 4) + y[:, None], x), y


def curve(rows: int = ROWS, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """A smooth function of four numbers, ``[rows, 4]`` to ``[rows]``."""
    x = torch.randn(rows, 4)
    return x, torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + noise * torch.randn(rows)
