"""Any tensor as rows of neurons, and a part of them where they are many."""

from __future__ import annotations

import math

from torch import Tensor

ELEMENTS = (1 << 15) - 1
"""What one thread takes at once (see ``ROOM``): of a larger tensor, further rows tell less than they cost."""
LEAST_ROWS = 64
"""Rows of a wide layer that are measured all the same: sixteen measured steps then give the thousand rows that a dead
neuron is judged by."""
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


def thin(x: Tensor, rows: int | None, phase: int) -> Tensor:
    """Every s-th row of ``[outer, neurons, inner]``, at most ``rows``; ``None`` for as many as half a megabyte holds.

    s has no divisor in common with the axis, so that all columns of images and all places of texts come, and ``phase``,
    which counts measured steps, moves the first one on.
    """
    outer, neurons, inner = x.shape
    most = max(LEAST_ROWS, ELEMENTS // max(neurons, 1)) if rows is None else rows
    if outer * inner <= most:
        return x
    # samples tell more than places: all of them, as long as there is room for one place of each
    line = next((size for size in range(min(LINE, inner), 0, -1) if inner % size == 0 and outer * size <= most), None)
    if line is not None:
        lines = x.unflatten(2, (-1, line))
        step = _step(lines.shape[2], most // (outer * line))
        return lines[:, :, phase % step :: step].reshape(outer, neurons, -1)
    if inner <= most:
        step = _step(outer, most // inner)
        return x[phase % step :: step]
    return x[phase % outer :][:1, :, phase % (inner - most + 1) :][:, :, :most]


def _step(length: int, most: int) -> int:
    least = -(-length // most)
    return next(step for step in range(least, 2 * length + 2) if math.gcd(step, length) == 1 or step >= length)
