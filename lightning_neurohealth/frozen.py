"""Values as tensors and plain containers, which a checkpoint may hold, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

PACKAGE = __name__.partition(".")[0] + "."
PLAIN = (bool, int, float, str, type(None))
CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "frozenset": frozenset,
    "dict": lambda items: dict(zip(items[::2], items[1::2], strict=True)),
}
SHARED, TENSOR = "shared", "tensor"


def freeze(value: Any, shared: Mapping[str, object] | None = None) -> dict[str, Any]:
    """``value`` as nested lists, and its tensors as one long tensor for each dtype: many small ones take long to load.

    Args:
        value: Plain values, lists, tuples, frozen sets, dictionaries, tensors, and our own dataclasses and enums.
        shared: Objects that are not taken along; who thaws it brings others of the same names.

    Raises:
        TypeError: There is something else in it.
    """
    names = {id(thing): name for name, thing in (shared or {}).items()}
    pools: dict[str, list[Tensor]] = {}
    sizes: dict[str, int] = {}

    def tree(value: Any) -> Any:
        if id(value) in names:
            return [SHARED, names[id(value)]]
        if isinstance(value, Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            start = sizes.get(dtype, 0)
            sizes[dtype] = start + value.numel()
            pools.setdefault(dtype, []).append(value.detach().reshape(-1).cpu())
            return [TENSOR, dtype, start, *value.shape]
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind in (list, tuple, frozenset):
            return [kind.__name__, *map(tree, value)]
        if isinstance(value, dict):
            return ["dict", *(tree(part) for item in value.items() for part in item)]
        where = f"{kind.__module__}:{kind.__qualname__}"
        if where.startswith(PACKAGE) and isinstance(value, IntEnum):
            return [where, int(value)]
        if where.startswith(PACKAGE) and is_dataclass(value):
            return [where, *(part for f in fields(value) if f.init for part in (f.name, tree(getattr(value, f.name))))]
        raise TypeError(f"a checkpoint takes tensors and plain containers only, got {value!r}")

    frozen = tree(value)
    return {"tree": frozen, "tensors": {dtype: torch.cat(parts) for dtype, parts in pools.items()}}


def thaw(frozen: Mapping[str, Any], shared: Mapping[str, object] | None = None) -> Any:
    """What was frozen. What a dataclass has had and has no more is left out; what is new has its default.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, ImportError: It is nothing that this version has frozen.
    """
    tensors = frozen["tensors"]

    def value(tree: Any) -> Any:
        if not isinstance(tree, list):
            return tree
        kind, *items = tree
        if kind == SHARED:
            return (shared or {})[items[0]]
        if kind == TENSOR:
            dtype, start, *shape = items
            size = torch.Size(shape)
            return tensors[dtype][start : start + size.numel()].view(size).clone()
        if kind in CONTAINERS:
            return CONTAINERS[kind]([value(item) for item in items])
        module, _, name = kind.partition(":")
        if not module.startswith(PACKAGE):
            raise ValueError(f"{kind!r} is none of ours")
        ours = getattr(import_module(module), name)
        if issubclass(ours, IntEnum):
            return ours(items[0])
        known = {f.name for f in fields(ours) if f.init}
        return ours(**{n: value(v) for n, v in zip(items[::2], items[1::2], strict=True) if n in known})

    return value(frozen["tree"])
