"""Finds the heads of attention: what each of them gives lies side by side in the tensor that the last matrix reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth.activations import HEADS
from lightning_neurohealth.layers import ROOT, Layer, is_convolution
from lightning_neurohealth.sharding import Part, is_split, part_of, piece

ATTENTION = "scaled_dot_product_attention"
SUMS = {"matmul", "__matmul__", "bmm"}
FOLDS = {"reshape", "view", "flatten"}
TURNS = {"TransposeBackward0", "ViewBackward0", "UnsafeViewBackward0", "SqueezeBackward1", "CloneBackward0"}
"""What ``nn.MultiheadAttention`` does with its output after the last product."""
PRODUCTS = {"AddmmBackward0": "_saved_mat1", "MmBackward0": "_saved_self"}
"""That product, and the name under which it keeps what it reads."""
UNREAD = "the heads of this attention are not told apart: no Linear reads what they give, as they give it"
HIDDEN = "seen only where the out_proj of a MultiheadAttention trains, outside of checkpoints and evaluations"


@dataclass(frozen=True)
class Heads:
    """Where the heads lie in a tensor.

    Attributes:
        name: Of the layer that they are.
        count: How many this rank has; 0 while they stand with the samples on the first axis, and nobody can tell.
        axis: Their own axis, counted from the front; ``None`` once they and their channels share the last one.
        sources: Layers that feed them.
    """

    name: str
    count: int
    axis: int | None
    sources: frozenset[str] = frozenset()


def heads_name(module: str | None) -> str:
    """What the heads of attention within ``module`` are called."""
    return f"{module}.heads" if module and module != ROOT else "heads"


def heads_axis(function: str, args: Sequence[Any], out: Tensor, by_shares: bool) -> int | None:
    """Where heads lie in ``out``, if it is what attention gives; ``by_shares``: of a product, with a softmax first."""
    if function == ATTENTION or (function in SUMS and by_shares):
        return out.dim() - 3 if out.dim() >= 3 else None
    if function != "einsum" or not by_shares or not isinstance(args[0], str):
        return None
    *read, given = args[0].replace(" ", "").replace("->", ",").split(",")
    if len(read) != 2 or not given.isalpha() or len(given) < 4:
        return None
    shared = [letter for letter in read[0] if letter in read[1] and letter in given]  # samples, then heads
    return given.index(shared[1]) if len(shared) == 2 else None


def heads_in(name: str, out: Tensor, axis: int, sources: frozenset[str]) -> Heads:
    """The heads in what attention has given."""
    return Heads(name, out.shape[axis] if axis else 0, axis, sources)


def moved_heads(
    heads: Heads | None, function: str, x: Tensor, out: Tensor, moved: Callable[[int], int | None]
) -> Heads | None:
    """Where the heads of ``x`` lie in ``out`` after a function that moves or scales; ``moved`` tells of an axis."""
    if heads is None:
        return None
    if heads.axis is None:
        return heads if out.dim() and out.shape[-1] == x.shape[-1] and moved(x.dim() - 1) == out.dim() - 1 else None
    if not heads.count:
        unfolded = function in FOLDS and out.dim() >= 4 and out.shape[0] * out.shape[1] == x.shape[0]
        return replace(heads, count=out.shape[1], axis=1) if unfolded else heads if out.shape == x.shape else None
    if function in FOLDS and out.shape != x.shape:
        channels = x.shape[-1]
        folded = heads.axis == x.dim() - 2 and out.dim() and out.shape[-1] == heads.count * channels
        return replace(heads, axis=None) if folded else None
    axis = moved(heads.axis)
    return None if axis is None else replace(heads, axis=axis)


def heads_layer(heads: Heads, x: Tensor, module: nn.Module | None) -> Layer | None:
    """The layer that the heads in ``x`` are, which ``module`` is about to read; ``None`` where it cannot tell them."""
    if heads.axis is not None or module is None or is_convolution(module):
        return None
    width, weight = piece(x).shape[-1], module._parameters.get("weight")
    channels, left = divmod(width, heads.count)
    part = None
    if weight is not None and is_split(weight):
        columns = part_of(weight, 0 if type(module).__name__ == "Conv1D" else 1)
        if columns is not None and columns.width == width < columns.of:
            part = _part(columns, channels)
    if left or not channels:
        return None
    count = heads.count if part is None else part.of
    return Layer(
        heads.name, count, -2, x.device, HEADS, output=False, sources=heads.sources, part=part, channels=channels
    )


def _part(columns: Part, channels: int) -> Part:
    of_channels = columns.columns
    assert isinstance(of_channels, slice)
    heads = slice(of_channels.start // channels, of_channels.stop // channels)
    return replace(columns, columns=heads, of=columns.of // channels)


def read_by_out_proj(out: Tensor) -> Tensor | None:
    """What the last product of an ``nn.MultiheadAttention``, which calls no module for it, has read to give ``out``.

    Autograd keeps it for the gradient of the weight. It is ``None`` where it does not, or gives it away for a while.
    """
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return None  # asking for what a checkpoint has dropped would compute it again
    node: Any = out.grad_fn
    while node is not None and node.name() in TURNS:
        node = node.next_functions[0][0]
    kept = None if node is None else getattr(node, PRODUCTS.get(node.name(), ""), None)
    return kept if isinstance(kept, Tensor) else None
