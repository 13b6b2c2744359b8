"""What a layer is, and which modules own one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lightning_neurohealth import activations
from lightning_neurohealth.activations import IDENTITY, Activation
from lightning_neurohealth.sharding import Part

WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)(?:\.|$)"
)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
COLLECTIONS = (nn.ParameterList, nn.ParameterDict)
ROOT = "root"
"""Name of the model itself, where it is a layer."""


def clean_name(name: str) -> str:
    """Name of a module or parameter as the user wrote it, without what compilers and wrappers put in between."""
    return WRAPPERS.sub("", name).rstrip(".")


class Subject(Protocol):
    """What a statistic is of: a layer, the table of parameters, or the run."""

    name: str

    @property
    def neurons(self) -> int:
        """How many numbers a statistic keeps."""

    @property
    def device(self) -> torch.device:
        """Where the statistics live."""


@dataclass(eq=False)
class Layer:
    """z = Wx + b, a = f(z): one owner of weights, one activation, one neuron axis.

    Attributes:
        name: Module that owns the weight, or the activation's own name where no weight is found; ``#2`` for the second
            call within one forward.
        neurons: How many output features or channels it has.
        axis: Where they lie in the activation; -1 for the last axis, else counted from the front.
        axes: How many axes the activation had then; 0 where that is not known.
        function: What is known of the activation function.
        activation: Module path or function name of the activation, ``None`` for a linear layer.
        owner: Path of the module that owns the weight.
        weight: Name of the weight parameter, ``None`` of an embedding: what is known of the rows of a weight, of which
            a step reads a few, says nothing of its neurons.
        weight_axis: Axis of the weight along which its neurons lie, ``None`` where that is not known.
        fan_in, fan_out: Connections into and out of a neuron, the kernel's area included; 0 where not known.
        before: Layer whose activation it reads directly, neuron by neuron.
        nonnegative: True if all that it reads is known to be ≥ 0.
        order: Position in the order of execution.
        output: True while nothing that has weights was seen to read it.
        gate: True if its activation is multiplied with another tensor.
        normalized: True where a norm stands between weight and activation, so that z is not Wx + b.
        sources: Layers whose outputs it reads, sums of them included, with no norm in between: its scale follows from
            theirs.
        superseded: True once an activation was found behind what first looked like a linear layer.
        channels: Width of each neuron, where neurons are heads of attention that lie side by side on the last axis; 0
            for all other layers.
        part: Which of the neurons this rank has, where ranks share them (tensor parallelism); ``None`` for all.
    """

    name: str
    neurons: int
    axis: int
    device: torch.device
    function: Activation = IDENTITY
    activation: str | None = None
    owner: str | None = None
    weight: str | None = None
    weight_axis: int | None = None
    fan_in: int = 0
    fan_out: int = 0
    before: str | None = None
    nonnegative: bool = False
    order: int = 0
    output: bool = True
    gate: bool = False
    normalized: bool = False
    sources: frozenset[str] = frozenset()
    superseded: bool = False
    channels: int = 0
    axes: int = 0
    part: Part | None = None


def axis_in(layer: Layer, x: Tensor) -> int:
    """Where the neurons of ``layer`` lie in ``x``, which may have an axis of samples more or less than it had."""
    if layer.axis < 0 or not layer.axes:
        return layer.axis % x.dim()
    return (layer.axis + x.dim() - layer.axes) % x.dim()


def merged_order(sequences: Iterable[Sequence[str]]) -> list[str]:
    """One order of execution out of several that were seen: what is new stands behind what it followed."""
    merged: list[str] = []
    for sequence in sequences:
        before: str | None = None
        for name in sequence:
            if name not in merged:
                merged.insert(merged.index(before) + 1 if before is not None else 0, name)
            before = name
    return merged


def is_owner(module: nn.Module) -> bool:
    """True for a module that turns its input into z = Wx + b by a weight of its own; of an embedding, x is one-hot."""
    if isinstance(module, (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, *RECURRENT, *EMBEDDINGS)):
        return True
    return type(module).__name__ == "Conv1D" and getattr(getattr(module, "weight", None), "ndim", 0) == 2


def is_convolution(module: nn.Module) -> bool:
    """True where channels stand before space."""
    return isinstance(module, nn.modules.conv._ConvNd)


def neuron_axis(module: nn.Module, out: Tensor) -> int:
    """Where ``module``, an owner of weights, writes its neurons: channels before space, else the last axis."""
    if is_convolution(module):
        unbatched = out.dim() == len(getattr(module, "kernel_size", ())) + 1
        return 0 if unbatched else 1
    return out.dim() - 1


def own_function(module: nn.Module) -> Activation:
    """The activation that an owner applies by itself: that of a plain RNN; an LSTM's or GRU's output has none."""
    name = getattr(module, "nonlinearity", "") if isinstance(module, RECURRENT) else ""
    kind = {"tanh": nn.Tanh(), "relu": nn.ReLU()}.get(name)
    return (activations.from_module(kind) if kind is not None else None) or IDENTITY
