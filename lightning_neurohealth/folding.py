"""Any tensor as rows of neurons, and a part of them where they are many."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

WHOLE = 1 << 16
"""Elements of a tensor of which every row is measured: a quarter of a megabyte of float32."""
ELEMENTS = (1 << 15) - 1
"""What is measured of a larger one, as much as one thread takes at once: further rows tell less than they cost."""
LEAST_ROWS = 32
"""Rows of a wide layer that are measured all the same: some thirty measured steps then give the thousand rows that a
dead neuron is judged by."""
PRODUCTS = 1 << 17
"""What is taken of a signal that has to be computed for it, and of which only whole samples tell."""
LEAST_SAMPLES = 4
"""Samples of it, however large they are."""
LINE = 16
"""Neighbours in memory that are taken together: a processor fetches that many float32 at once anyway."""


def fold(x: Tensor, axis: int) -> Tensor:
    """View of ``x`` as ``[outer, neurons, inner]``; rows are outer × inner.

    A view wherever the memory allows it, channels-last included (inner is 1 there); a copy for odd strides only.
    """
    axis %= x.dim()
    neurons = x.shape[axis]
    if axis == x.dim() - 1:
        return x.reshape(-1, neurons, 1) if x.numel() else x.reshape(0, neurons, 1)
    if not x.is_contiguous():
        last = x.movedim(axis, -1)
        if last.is_contiguous():
            return last.reshape(math.prod(last.shape[:-1]), neurons, 1)
    return x.reshape(math.prod(x.shape[:axis]), neurons, math.prod(x.shape[axis + 1 :]))


def upright(x: Tensor) -> Tensor:
    """``[outer, neurons, inner]`` as ``[rows, neurons, 1]`` in memory of its own, over which sums are quickest."""
    turned = x if x.shape[2] == 1 else x.movedim(1, 2)
    return turned.clone(memory_format=torch.contiguous_format).view(-1, x.shape[1], 1)


def thin(x: Tensor, rows: int | None, phase: int) -> Tensor:
    """Every s-th row of ``[outer, neurons, inner]``, at most ``rows``; with ``None``, all of what is small; a copy.

    s has no divisor in common with the axis, so that all columns of images and all places of texts come, and ``phase``,
    which counts measured steps, moves the first one on.
    """
    outer, neurons, inner = x.shape
    line, step = _spacing(outer, neurons, inner, rows)
    if step is None:
        return upright(x)
    if line is None:
        return upright(x[phase % step :: step, :, phase % inner :][:, :, :1])
    lines = x.unflatten(2, (-1, line))[:, :, phase % step :: step]
    return lines.movedim(1, 3).clone(memory_format=torch.contiguous_format).view(-1, neurons, 1)


def some_samples(x: Tensor, axis: int, phase: int) -> Tensor:
    """Every s-th whole sample of what is large; where the neurons lie last, a sample is a row: ``[rows, neurons]``."""
    if axis in (-1, x.dim() - 1):
        x = x.reshape(-1, x.shape[-1])
    samples = x.shape[0]
    most = max(LEAST_SAMPLES, PRODUCTS * samples // max(x.numel(), 1))
    if samples <= most or axis in (0, -x.dim()):
        return x
    step = _step(samples, most)
    return x[phase % step :: step]


@lru_cache(maxsize=4096)
def _spacing(outer: int, neurons: int, inner: int, rows: int | None) -> tuple[int | None, int | None]:
    """How many neighbours go together, and of how many such lines of each sample one is taken.

    Samples tell more than places. Where there are too many for one place of each, the first is ``None``, and the second
    is of how many samples one is taken. Where all rows are, both are ``None``.
    """
    most = max(LEAST_ROWS, ELEMENTS // max(neurons, 1)) if rows is None else rows
    if outer * inner <= most or (rows is None and outer * neurons * inner <= WHOLE):
        return None, None
    if outer > most:
        return None, _step(outer, most)
    line = next(size for size in range(min(LINE, inner), 0, -1) if inner % size == 0 and outer * size <= most)
    return line, _step(inner // line, most // (outer * line))


def _step(length: int, most: int) -> int:
    least = -(-length // most)
    return next(step for step in range(least, 2 * length + 2) if math.gcd(step, length) == 1 or step >= length)
