"""Tensors that lie in pieces on several ranks, as FSDP2 and tensor parallelism leave them (DTensor)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth import ranks
from lightning_neurohealth.slices import Slice

REPEATING = ("tensor_parallel", "tp")
"""Names of the dimension of a device mesh along which all ranks get the same rows, in Lightning and elsewhere."""


@dataclass(frozen=True)
class Part:
    """Which of the columns of a signal this rank brings.

    Attributes:
        columns: A slice of them, or their indices.
        counts: True on one of the ranks that bring parts of the same rows: they count once.
        of: How many columns there are in all.
        weight: What sums are multiplied with, a number for each column or one for all.
    """

    columns: slice | Tensor
    of: int
    counts: bool = True
    weight: Tensor | float = 1.0

    @property
    def width(self) -> int:
        """How many columns that are."""
        return self.columns.stop - self.columns.start if isinstance(self.columns, slice) else len(self.columns)


def is_split(tensor: Tensor | None) -> bool:
    """True if no rank has all of it."""
    return bool(_sharding(tensor))


def piece(tensor: Tensor) -> Tensor:
    """What this rank holds; the tensor itself where it is an ordinary one."""
    if not hasattr(tensor, "placements"):
        return tensor
    held: Tensor = tensor.detach().to_local()  # type: ignore[attr-defined]
    return held


def extent(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of the piece, and where it begins along each axis of the whole."""
    if not is_split(tensor):
        return tuple(tensor.shape), (0,) * tensor.dim()
    return _extent(tensor.shape, tensor.device_mesh, tensor.placements)  # type: ignore[attr-defined]


@cache
def _extent(shape: torch.Size, mesh: Any, placements: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset  # its import takes a second

    here, offset = compute_local_shape_and_global_offset(shape, mesh, placements)
    return tuple(here), tuple(offset)


def shards(tensor: Tensor) -> int:
    """In how many pieces it lies."""
    mesh = getattr(tensor, "device_mesh", None)
    return math.prod(mesh.size(dim) for dim in _sharding(tensor)) if mesh is not None else 1


def leads(tensor: Tensor, axis: int | None = None) -> bool:
    """True on one of the ranks over which it is split, or over which ``axis`` is."""
    mesh = getattr(tensor, "device_mesh", None)
    if mesh is None:
        return True
    coordinate = mesh.get_coordinate()
    return all(coordinate[dim] == 0 for dim, split in _sharding(tensor).items() if axis in (None, split))


def part_of(tensor: Tensor, axis: int) -> Part | None:
    """This rank's columns along ``axis``, which count once; ``None`` where it has all of them."""
    axis %= tensor.dim()
    if axis not in _sharding(tensor).values():
        return None
    shape, offset = extent(tensor)
    return Part(slice(offset[axis], offset[axis] + shape[axis]), tensor.shape[axis], leads(tensor, axis))


def picks(tensor: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Of every ``stride``-th element of the whole those in the piece: their places there, and which of all they are."""
    (shape, offset), at = extent(tensor), torch.arange(0, tensor.numel(), stride)
    inside, place = torch.ones_like(at, dtype=torch.bool), torch.zeros_like(at)
    for along, size, start in zip(torch.unravel_index(at, tensor.shape), shape, offset, strict=True):
        inside &= (along >= start) & (along < start + size)
        place = place * size + along - start
    return place[inside], inside.nonzero().flatten()


def repeats_rows(model: nn.Module) -> bool:
    """True on a rank that gets the rows of another, which counts them, because they share the neurons of a layer."""
    meshes = {id(p.device_mesh): p.device_mesh for p in model.parameters() if hasattr(p, "device_mesh")}
    return any(
        coordinate > 0
        for mesh in meshes.values()
        for name, coordinate in zip(mesh.mesh_dim_names or (), mesh.get_coordinate() or (), strict=False)
        if name in REPEATING
    )


class Pieces:
    """Puts together what ranks measure of the pieces of some tensors.

    Attributes:
        any: True if some tensor is split.
    """

    def __init__(self, tensors: Iterable[Tensor], device: torch.device, slices: Mapping[int, Slice] = {}) -> None:
        tensors = list(tensors)
        split = [is_split(t) or id(t) in slices for t in tensors]
        self.any = any(split)
        self._split = torch.tensor(split, device=device)
        none = [one and not _size_here(t, slices.get(id(t))) for one, t in zip(split, tensors, strict=True)]
        self._none_here = torch.tensor(none, device=device)
        # each piece may lie on several ranks, which all add it
        pieces = [slices[id(t)].ranks if id(t) in slices else shards(t) for t in tensors]
        shares = [count / ranks.world_size() for count in pieces]
        self._shares = torch.tensor(shares, dtype=torch.float64, device=device)

    def joined(self, here: Tensor, norms: int) -> Tensor:
        """What is true of whole tensors, ``[…, tensors]``, from the same of this rank's pieces.

        ``here`` are ``norms`` rows of norms: one collective. If there are more, they are Σx, Σx², the least and the
        greatest element: two.
        """
        sums, ends = here[norms : norms + 2], here[norms + 2 :]
        added = torch.cat([here[:norms].square(), sums, ends.isnan().double()])
        added = ranks.all_reduce(added * self._shares, "sum")
        whole = [added[:norms].sqrt(), added[norms : norms + len(sums)]]
        if len(ends):
            # what becomes of NaN in a minimum over ranks is not defined
            here_least = torch.where(self._none_here | ends.isnan(), torch.inf, torch.stack([ends[0], -ends[1]]))
            least, minus_greatest = ranks.all_reduce(here_least, "min")
            ends = torch.where(added[norms + 2 :] > 0, torch.nan, torch.stack([least, -minus_greatest]))
            whole.append(torch.where(least > -minus_greatest, 0.0, ends))  # of a tensor without an element
        return torch.where(self._split, torch.cat(whole), here)


def _size_here(tensor: Tensor, here: Slice | None) -> int:
    return math.prod(extent(tensor)[0]) if here is None else here.stop - here.start


def _sharding(tensor: Tensor | None) -> dict[int, int]:
    """By dimension of the device mesh, the axis of the tensor that it splits."""
    placements = getattr(tensor, "placements", ())
    return {dim: placement.dim for dim, placement in enumerate(placements) if hasattr(placement, "dim")}
