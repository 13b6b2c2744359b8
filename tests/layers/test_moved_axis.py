"""Where an axis lies after a function has moved it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.tracing.origins import moved_axis

SHAPE = (2, 3, 4, 5)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("permute", (0, 3, 1, 2), {}),
    ("permute", ((0, 3, 1, 2),), {}),
    ("transpose", (1, -1), {}),
    ("swapaxes", (0, 2), {}),
    ("movedim", (1, -1), {}),
    ("transpose", (), {"dim0": 1, "dim1": 2}),
    ("mT", (), {}),
    ("flatten", (1, 2), {}),
    ("flatten", (0, 1), {}),
    ("flatten", (2,), {}),
    ("flatten", (1,), {}),
    ("unsqueeze", (0,), {}),
    ("unsqueeze", (-1,), {}),
    ("mean", (1,), {}),
    ("mean", ((2, 3),), {}),
    ("contiguous", (), {}),
    ("reshape", (-1, 5), {}),
    ("view", (2, 3, 20), {}),
    ("view", (2, 3, 4, 5, 1), {}),
]


def call_with_index(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], axis: int
) -> tuple[int | None, int | None]:
    """What we say of ``axis`` after a call, and what is true: each entry holds its own index on it."""
    index = [torch.arange(SHAPE[axis], dtype=torch.float32).view([-1 if i == axis else 1 for i in range(4)])]
    x = index[0].expand(SHAPE).contiguous()
    method = getattr(x, name)
    out = method if isinstance(method, Tensor) else method(*args, **kwargs)
    true = None
    for i, size in enumerate(out.shape):
        like = index[0].view([-1 if j == i else 1 for j in range(out.dim())])
        if size == SHAPE[axis] and torch.equal(out, like.expand_as(out)):
            true = i
    return moved_axis(name, args, kwargs, x, out, axis), true


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=str)
def test_moved_axis_is_right_or_not_known(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], axis: int) -> None:
    said, true = call_with_index(name, args, kwargs, axis)
    assert said in (None, true)


@pytest.mark.parametrize(
    ("call", "axis", "moved"),
    [
        (CALLS[0], 1, 2),
        (CALLS[1], 3, 1),
        (CALLS[2], 1, 3),
        (CALLS[3], 2, 0),
        (CALLS[4], 1, 3),
        (CALLS[5], 1, 2),
        (CALLS[6], 2, 3),
        (("flatten", (2,), {}), 1, 1),
        (("flatten", (0, 1), {}), 3, 2),
        (("flatten", (1,), {}), 1, None),
        (("mean", ((2, 3),), {}), 1, 1),
        (("mean", (1,), {}), 3, 2),
        (("reshape", (-1, 5), {}), 3, 1),
    ],
    ids=str,
)
def test_moved_axis_where_networks_need_it(call: Any, axis: int, moved: int | None) -> None:
    assert call_with_index(*call, axis) == (moved, moved)
