"""Follows tensors through a step: whose output a tensor is, where its neurons lie, which layers feed it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from lightning_neurohealth.tracing.heads import Heads, moved_heads

if TYPE_CHECKING:
    from lightning_neurohealth.layers import Layer

CONVOLUTIONS = {f"conv{transposed}{d}d" for d in (1, 2, 3) for transposed in ("", "_transpose")}
PRODUCTS = {"linear", "addmm", "matmul", "__matmul__", "mm", "bmm", "baddbmm", "einsum", "bilinear"}
WEIGHTED = CONVOLUTIONS | {"linear"}
"""Functions of which one argument is a weight, though it may be computed from data."""
MULTIPLICATIONS = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply"}
MIXTURES = {"lerp": 2, "lerp_": 2, "addcmul": 1, "addcmul_": 1}
"""Functions that multiply some of their tensors with others: from which one on."""
DIVISIONS = {"div", "div_", "divide", "true_divide", "__truediv__", "__rtruediv__", "__itruediv__"}
NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize", "local_response_norm"}
"""Functions whose result has a scale of its own, whatever that of the input is."""
SPREADS = {"rsqrt", "sqrt", "norm", "vector_norm", "linalg_vector_norm", "std", "var", "softmax", "log_softmax"}
"""Functions that norms are written with, and weights that add up to 1: what is multiplied with them is rescaled."""
MIXERS = {"softmax", "log_softmax", "cumsum", "sort", "argsort", "roll", "flip", "scaled_dot_product_attention"}
"""Functions that keep a shape and mix what is in it."""
JOINS = {"cat", "concat", "concatenate", "stack", "hstack", "vstack"}
"""Functions that put tensors side by side."""
MOVERS = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "mT", "T"}
"""Functions that move axes."""
LIKE = {"to", "type_as", "view_as", "reshape_as", "expand_as"}
"""Functions that may have another tensor as their model, of which they take no number."""
KEEPERS = {
    *("flatten", "view", "view_as", "reshape", "permute", "transpose", "movedim"),
    *("dropout", "contiguous", "mean", "cat"),
}
"""Functions that keep numbers that are ≥ 0 so."""


@dataclass(frozen=True)
class Origin:
    """Where a tensor of the current step comes from.

    Attributes:
        axis: Where its neurons lie, counted from the front; ``None`` where they are mixed.
        owner: The call of a module with a weight whose output it is, until an activation or a sum ends that.
        order: Position of that call in the order of execution.
        layer: The layer whose activation it is.
        sources: Names of the layers that feed it.
        carried: Those of them whose scale it carries on, with no norm in between.
        normalized: True if a norm stands between the owner and it.
        nonnegative: True if it is known to be ≥ 0.
        shares: True of what a softmax gave, over the last axis.
        heads: Where the heads of attention lie in it.
    """

    axis: int | None = None
    owner: str | None = None
    order: int = 0
    layer: Layer | None = None
    sources: frozenset[str] = frozenset()
    carried: frozenset[str] = frozenset()
    normalized: bool = False
    nonnegative: bool = False
    shares: bool = False
    heads: Heads | None = None


NOWHERE = Origin()


class Origins:
    """The origins of the tensors that are alive; ``parameters`` holds the ids of those that can be weights."""

    def __init__(self, parameters: Container[int] = ()) -> None:
        self._parameters = parameters
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._computed: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def clear(self) -> None:
        """Forget them all."""
        if self._known:
            self._known = WeakIdKeyDictionary()
        if self._computed:
            self._computed = WeakIdKeyDictionary()

    def of(self, tensor: Tensor) -> Origin:
        """The origin of ``tensor``; ``NOWHERE`` for one that no layer feeds."""
        found: Origin = self._known.get(tensor, NOWHERE)
        if found is NOWHERE and hasattr(tensor, "placements"):  # of a DTensor, what this rank holds
            found = self._known.get(tensor._local_tensor, NOWHERE)  # type: ignore[attr-defined]
        return found

    def note(self, tensor: Tensor, origin: Origin) -> None:
        """Remember the origin of ``tensor``."""
        self._known[tensor] = origin

    def sources(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        """Names of all layers that feed any of ``tensors``."""
        return frozenset().union(*(self.of(tensor).sources for tensor in tensors))

    def carried(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        """Names of all layers whose scale any of ``tensors`` carries on."""
        return frozenset().union(*(self.of(tensor).carried for tensor in tensors))

    def parameter(self, tensor: Tensor) -> Tensor | None:
        """The parameter that ``tensor`` is, views, or is computed from element by element; ``None`` of data."""
        for base in (tensor, tensor._base):
            if base is not None and id(base) in self._parameters:
                return base
            if base is not None and base in self._computed:
                computed: Tensor = self._computed[base]
                return computed
        return None

    def split(self, whole: Tensor, parts: Sequence[Any]) -> None:
        """``parts`` were cut out of ``whole``: none of them is a layer's whole output any more."""
        origin = self.of(whole)
        for part in parts:
            if isinstance(part, Tensor) and origin is not NOWHERE:
                axis = origin.axis if part.dim() == whole.dim() else None
                self.note(part, Origin(axis, None, origin.order, None, origin.sources, origin.carried))

    def carry(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor], out: Tensor
    ) -> None:
        """The function called ``name`` has turned ``tensors`` into ``out``."""
        tensors = tensors[:1] if name in LIKE else tensors
        known = [t for t in tensors if t in self._known]
        if not known:
            weight = next((p for p in map(self.parameter, tensors) if p is not None), None)
            if weight is not None and weight.shape == out.shape:
                self._computed[out] = weight  # scaled, masked, normalized or cast
            return
        # what is broadcast, such as an embedding of time, is added to the layer and not the other way round
        main = next((t for t in known if t.shape == out.shape), known[0])
        origin = self.of(main)
        axis = moved_axis(name, args[1:], kwargs, main, out, origin.axis)
        peers = [t for t in tensors if t is not main and not isinstance(t, nn.Parameter) and t.shape == out.shape]
        several = name in JOINS and len({self.of(t).owner for t in tensors}) > 1
        alone = not (peers or several)
        same = alone and axis is not None and name not in MIXERS
        scaled = name in MULTIPLICATIONS | DIVISIONS and any(not self.of(t).carried for t in known)
        self.note(
            out,
            Origin(
                axis=axis if name not in MIXERS else None,
                owner=origin.owner if same else None,
                order=origin.order,
                layer=origin.layer if same else None,
                sources=self.sources(known),
                carried=frozenset() if scaled or name in NORMS | SPREADS else self.carried(known),
                normalized=origin.normalized or name in NORMS or scaled,
                nonnegative=origin.nonnegative and len(known) == len(tensors) and (name in KEEPERS or "pool" in name),
                shares=name == "softmax" or (alone and origin.shares and _keeps_last(name, main, out)),
                heads=moved_heads(
                    origin.heads if alone and name not in MIXERS | NORMS | SPREADS else None,
                    name,
                    main,
                    out,
                    lambda axis: moved_axis(name, args[1:], kwargs, main, out, axis),
                ),
            ),
        )


def _keeps_last(name: str, x: Tensor, out: Tensor) -> bool:
    return name not in MOVERS and out.numel() == x.numel() and out.shape[-1:] == x.shape[-1:]


def moved_axis(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, out: Tensor, axis: int | None
) -> int | None:
    """Where ``axis`` of ``x`` lies in ``out`` after the function called ``name``; ``None`` if it is gone."""
    if axis is None:
        return None
    if name in MOVERS:
        # a shape in which every axis has its own size shows where each of them went
        probe = torch.empty(tuple(range(1, x.dim() + 1)), device="meta")
        moved = getattr(probe, name)
        moved = moved if isinstance(moved, Tensor) else moved(*args, **kwargs)
        return list(moved.shape).index(axis + 1)
    width = x.shape[axis]
    if out.dim() == x.dim() and out.shape[axis] == width:
        return axis
    if out.dim() and axis == x.dim() - 1 and out.shape[-1] == width:
        return out.dim() - 1
    if 0 < axis < out.dim() and x.shape[: axis + 1] == out.shape[: axis + 1]:
        return axis
    return None


def stored_axis(axis: int, ndim: int) -> int:
    """-1 for the last axis, else counted from the front, so that it holds for batches of other shapes."""
    return -1 if axis == ndim - 1 else axis


def guessed_axis(x: Tensor) -> int:
    """Neuron axis where nothing tells: the channel axis of images and volumes, the last axis of everything else."""
    return 1 if x.dim() >= 4 else x.dim() - 1


def function_name(function: Any) -> str:
    """Name of what a ``TorchFunctionMode`` sees; ``T`` for the getter of ``Tensor.T``."""
    name = getattr(function, "__name__", "")
    return getattr(function.__self__, "__name__", "") if name == "__get__" else name


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among ``values``, and in their tuples, lists, mappings and dataclasses."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found.extend(tensors_in(value))
        elif isinstance(value, Mapping):
            found.extend(tensors_in(value.values()))
        elif is_dataclass(value) and not isinstance(value, type):
            found.extend(tensors_in(vars(value).values()))
    return found
