"""Flat slices of parameters, as FSDP1 (FullyShardedDataParallel) leaves them on each rank between two steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Slice:
    """What of a flattened parameter is here.

    Attributes:
        start, stop: From which element to which.
        of: How many elements there are in all.
        ranks: Over how many ranks it is split.
        axes: How many axes the parameter has where it is whole.
    """

    start: int
    stop: int
    of: int
    ranks: int
    axes: int

    def picks(self, stride: int) -> tuple[Tensor, Tensor]:
        """Of every ``stride``-th element of the whole those that are here: their places, and which of all they are."""
        which = torch.arange(-(-self.start // stride), max(-(-self.stop // stride), -(-self.start // stride)))
        return which * stride - self.start, which


def slices_of(model: nn.Module) -> dict[int, Slice]:
    """By the id of each parameter that FSDP1 shards, what of it is here."""
    found: dict[int, Slice] = {}
    for module in model.modules():
        handle: Any = getattr(module, "_handle", None)
        flat = getattr(handle, "flat_param", None)
        if flat is None or not getattr(handle, "uses_sharded_strategy", False):
            continue
        ranks, whole = handle.world_size, flat._unpadded_unsharded_size.numel()
        length = -(-whole // ranks)
        start = min(length * handle.rank, whole)
        found[id(flat)] = Slice(start, min(start + length, whole), whole, ranks, 2)  # matrices for the most part
        for parameter, shape, info in zip(flat._params or (), flat._shapes, flat._shard_param_infos, strict=False):
            first, last = (info.intra_param_start_idx, info.intra_param_end_idx + 1) if info.in_shard else (0, 0)
            found[id(parameter)] = Slice(first, last, math.prod(shape), ranks, len(shape))
    return found
