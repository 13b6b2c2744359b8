"""Sums and ends of the elements of many tensors, in few calls and little memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.sharding import piece
from lightning_neurohealth.slices import Slice

FEW = 1 << 15
"""Elements that are summed in double precision, those of several tensors together: of more, single precision is a
third of the cost, and errors cancel."""
CACHED = 1 << 16
"""Elements that are summed in single precision, and stay in a processor's cache meanwhile."""
LARGE = 1 << 24
"""The same on devices where a call costs more than that."""


def of_gradients(gradients: Sequence[Tensor | None], slices: Mapping[int, Slice], device: torch.device) -> Tensor:
    """Σx, Σx², the least and the greatest x of each, float64 ``[4, gradients]``; 0 where there is none.

    Of a gradient that is split over ranks, of the piece here. What a sparse one does not hold is 0. Of a complex one
    the real and the imaginary parts are elements, and the sums are halved.

    Args:
        gradients: Of each parameter.
        slices: By its place, what of a flattened parameter is here; behind that it may be padded.
        device: Where the numbers are wanted.
    """
    found = torch.zeros(4, len(gradients), dtype=torch.float64, device=device)
    present = {place: _elements(g, slices.get(place)) for place, g in enumerate(gradients) if g is not None}
    held = {place: x for place, x in present.items() if x.numel()}
    if held:
        parts = [torch.view_as_real(x) if x.is_complex() else x for x in held.values()]
        found.index_copy_(1, index(tuple(held), device), summed(parts, device))
    halved = tuple(place for place, x in held.items() if x.is_complex())
    if halved:
        found[:2].index_copy_(1, index(halved, device), found[:2, index(halved, device)] / 2)
    return found


def summed(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """Σx, Σx², the least and the greatest x of each, float64 ``[4, tensors]``; none is empty.

    Small tensors of one size are looked at together, a large one a part at a time: its sums are precise to about five
    digits of Σ|x| and of Σx². NaN is less and greater than all.
    """
    alike: dict[Any, list[int]] = {}
    for place, tensor in enumerate(tensors):
        alike.setdefault((tensor.numel(), tensor.dtype, tensor.device), []).append(place)
    found: list[Tensor] = []
    order: list[int] = []
    for (size, _, _), places in alike.items():
        few = max(FEW // size, 1)
        for some in (places[start : start + few] for start in range(0, len(places), few)):
            rows = [tensors[place].reshape(-1) for place in some]
            found.append((_of_small(torch.stack(rows)) if size <= FEW else _of_large(rows[0])).to(device))
            order += some
    back = sorted(range(len(order)), key=order.__getitem__)
    return torch.cat(found, 1)[:, index(tuple(back), device)]


@lru_cache(maxsize=32)
def index(places: tuple[int, ...], device: torch.device) -> Tensor:
    """``places`` on the device, which to bring there would let it wait, at every step."""
    return torch.tensor(places, dtype=torch.long, device=device)


def _of_small(x: Tensor) -> Tensor:
    x = x.double()
    return torch.stack([x.sum(1), torch.linalg.vecdot(x, x), x.amin(1), x.amax(1)])


def _of_large(x: Tensor) -> Tensor:
    parts = []
    for part in x.split(CACHED if x.device.type == "cpu" else LARGE):
        wide = part.to(torch.promote_types(part.dtype, torch.float32))
        parts.append(torch.stack([wide.sum(), torch.dot(wide, wide), wide.amin(), wide.amax()]))
    sums, squares, least, greatest = torch.stack(parts, 1).double()
    return torch.stack([sums.sum(), squares.sum(), least.amin(), greatest.amax()]).view(4, 1)


def _elements(gradient: Tensor, here: Slice | None) -> Tensor:
    gradient = gradient.detach()
    if gradient.is_sparse:
        values = gradient.coalesce().values().reshape(-1)
        return torch.cat([values, values.new_zeros(1)]) if len(values) < gradient.numel() else values
    held = piece(gradient).resolve_conj()
    return held if here is None else held.reshape(-1)[: here.stop - here.start]
