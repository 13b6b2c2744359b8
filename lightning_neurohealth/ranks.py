"""What ranks say to each other: one packed reduction of each kind a window, and an agreement on what is packed."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

OPERATIONS: dict[str, Any] = {"sum": "SUM", "min": "MIN", "max": "MAX"}


def world_size() -> int:
    """Number of ranks that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this one."""
    return dist.get_rank() if world_size() > 1 else 0


def all_reduce(packed: Tensor, kind: str) -> Tensor:
    """``packed`` of all ranks reduced element by element, in one collective; works in place where it can."""
    if world_size() > 1:
        here = packed.device
        packed = packed.cuda() if dist.get_backend() == "nccl" and here.type == "cpu" else packed
        dist.all_reduce(packed, op=getattr(dist.ReduceOp, OPERATIONS[kind]))
        packed = packed.to(here)
    return packed


def all_alike(value: Any) -> bool:
    """True if ``value``, in plain containers, is the same on every rank: one reduction of two numbers.

    What thousands of ranks would have to send each other to compare it themselves grows with their number.
    """
    text = repr(_in_order(value)).encode(errors="backslashreplace")
    digest = float(int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big"))
    most, least = all_reduce(torch.tensor([digest, -digest], dtype=torch.float64), "max").tolist()
    return bool(most == -least)


def gather_objects(value: Any) -> list[Any]:
    """``value`` of every rank, in the order of ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def _in_order(value: Any) -> Any:
    """The same for equal values: the order of a set is another one in every process."""
    if isinstance(value, dict):
        return [(key, _in_order(value[key])) for key in sorted(value, key=repr)]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return [_in_order(item) for item in value] if isinstance(value, (list, tuple)) else value
