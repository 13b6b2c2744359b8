"""Any tensor as rows of neurons."""

from __future__ import annotations

import math

from torch import Tensor


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
