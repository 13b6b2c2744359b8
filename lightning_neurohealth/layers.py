"""Finds the layers of a running model: which module owns the weight, which activation follows, where the neurons lie.

The finder is told of every call while a step runs (by :mod:`lightning_neurohealth.taps`) and follows tensors from the
module that wrote them to the activation that reads them, through norms, dropout, reshapes and permutations. Shape alone
does not tell the neuron axis, ``(N, C, T)`` and ``(N, T, D)`` look alike: the producer does.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth.activations import IDENTITY, Activation
from lightning_neurohealth.origins import (
    CONVOLUTIONS,
    MULTIPLICATIONS,
    NOWHERE,
    PRODUCTS,
    Origin,
    Origins,
    function_name,
    guessed_axis,
    stored_axis,
    tensors_in,
)
from lightning_neurohealth.patterns import Patterns

WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?:\.|$)")


def clean_name(name: str) -> str:
    """Name of a module or parameter as the user wrote it, without what compilers and wrappers put in between."""
    return WRAPPERS.sub("", name).rstrip(".")


@dataclass(eq=False)
class Layer:
    """z = Wx + b, a = f(z): one owner of weights, one activation, one neuron axis.

    Attributes:
        name: Module that owns the weight, or the activation's own name where no weight is found; ``#2`` for the second
            call within one forward.
        neurons: How many output features or channels it has.
        axis: Where they lie in the activation; -1 for the last axis, else counted from the front.
        function: What is known of the activation function.
        activation: Module path or function name of the activation, ``None`` for a linear layer.
        owner: Path of the module that owns the weight.
        weight: Name of the weight parameter.
        weight_axis: Axis of the weight along which its neurons lie, ``None`` where that is not known.
        fan_in, fan_out: Connections into and out of a neuron, the kernel's area included; 0 where not known.
        before: Layer whose activation it reads directly, neuron by neuron.
        nonnegative: True if all that it reads is known to be ≥ 0.
        order: Position in the order of execution.
        output: True while nothing that has weights was seen to read it.
        gate: True if its activation is multiplied with another tensor.
        superseded: True once an activation was found behind what first looked like a linear layer.
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
    superseded: bool = False


def is_owner(module: nn.Module) -> bool:
    """True for a module that turns its input into z = Wx + b by a weight of its own."""
    if isinstance(module, (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)):
        return True
    return type(module).__name__ == "Conv1D" and getattr(getattr(module, "weight", None), "ndim", 0) == 2


def is_convolution(module: nn.Module) -> bool:
    """True where channels stand before space."""
    return isinstance(module, nn.modules.conv._ConvNd)


class LayerFinder:
    """Follows one model's tensors and keeps the layers that it has found, in the order of execution.

    While ``tracing``, origins are followed and layers are made; afterwards a table of calls answers, until a call comes
    that it does not know. Activations that are plain functions have no module to hook, so a model that uses them is
    traced at every measured step.
    """

    def __init__(self, model: nn.Module, patterns: Patterns) -> None:
        self.patterns = patterns
        self.modules = {clean_name(name): module for name, module in model.named_modules()}
        self.layers: dict[str, Layer] = {}
        self.tracing = True
        self.functional = False
        self.unknown: dict[str, str] = {}
        self._retrace = False
        self._sites: dict[str, Layer | None] = {}
        self._origins = Origins()
        self._counts: dict[str, Counter[str]] = {}
        self._owned: dict[int, str] = {}
        for name, module in self.modules.items():
            for parameter in module.parameters(recurse=False):
                if not is_owner(module) and parameter.dim() >= 2:
                    self._owned[id(parameter)] = name
        self._inputs: dict[str, tuple[str | None, bool]] = {}
        self._order = 0

    def begin_step(self) -> None:
        """Forget the tensors of the last step."""
        self._origins.clear()
        self._counts = {}
        self._order = 0

    def end_step(self) -> None:
        """Stop tracing once a whole step was seen and the table knows it all."""
        self._origins.clear()
        self.tracing = self.functional or self._retrace or not self.layers
        self._retrace = False

    def enter(self, child: str) -> None:
        """A composite child of the root is called: its modules' calls count from one."""
        self._counts.pop(child, None)

    def numbered(self, name: str) -> str:
        """``name`` for its first call within one forward, ``name#2`` for its second."""
        counts = self._counts.setdefault(name.split(".")[0], Counter())
        counts[name] += 1
        return name if counts[name] == 1 else f"{name}#{counts[name]}"

    def ordered(self) -> list[Layer]:
        """All layers in the order of execution."""
        return sorted(self.layers.values(), key=lambda layer: layer.order)

    # Calls of modules

    def produced(self, module: nn.Module, name: str, inputs: tuple[Any, ...], out: Tensor) -> Layer | None:
        """A module with a weight has written ``out``; gives the layer to measure there, if any."""
        call = self.numbered(name)
        if not self.tracing:
            return self._known(call)
        axis = 1 if is_convolution(module) else out.dim() - 1
        if is_convolution(module) and out.dim() == len(getattr(module, "kernel_size", ())) + 1:
            axis = 0
        return self._produce(call, name, axis, inputs, out)

    def activated(self, name: str, function: Activation, z: Tensor | None) -> Layer | None:
        """An activation module is about to read ``z``; gives its layer."""
        call = self.numbered(name)
        if not self.tracing:
            return self._known(call)
        layer = None if z is None else self._activate(call, name, function, z)
        self._sites[call] = layer
        return layer

    def leave(self, layer: Layer | None, a: Tensor) -> None:
        """``a`` is the activation of ``layer``."""
        if self.tracing and layer is not None:
            lower = layer.function.lower
            self._origins.note(
                a,
                Origin(
                    axis=layer.axis % a.dim(),
                    order=layer.order,
                    layer=layer,
                    sources=frozenset({layer.name}),
                    nonnegative=lower is not None and lower >= 0,
                ),
            )

    # Calls of functions

    def function_activated(self, caller: str, function: Activation, z: Tensor) -> Layer | None:
        """A plain function is about to be applied to ``z`` within the module ``caller``."""
        self.functional = True
        name = f"{caller}.{function.name}" if caller else function.name
        return self._activate(self.numbered(name), function.name, function, z)

    def function_called(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Layer | None:
        """Some other function has run: carry origins over, and find weights that are used without a module."""
        tensors = tensors_in((*args, *kwargs.values()))
        if not isinstance(out, Tensor):
            if isinstance(out, (tuple, list)) and tensors:
                self._origins.split(tensors[0], out)
            return None
        name = function_name(function)
        if name in PRODUCTS or name in CONVOLUTIONS:
            owner = next((self._owned[id(t)] for t in tensors if id(t) in self._owned), None)
            axis = 1 if name in CONVOLUTIONS and out.dim() > 2 else out.dim() - 1
            if owner is not None:
                self.functional = True
                return self._produce(self.numbered(owner or "root"), owner, axis, tuple(tensors), out)
            self._origins.note(out, Origin(axis=axis, sources=self._origins.sources(tensors)))
            return None
        if name in MULTIPLICATIONS:
            self._find_gates(tensors)
        self._origins.carry(name, args, kwargs, tensors, out)
        return None

    # How

    def _known(self, call: str) -> Layer | None:
        try:
            return self._sites[call]
        except KeyError:
            self._retrace = True
            return None

    def _produce(self, call: str, owner: str, axis: int, inputs: tuple[Any, ...], out: Tensor) -> Layer | None:
        self._order += 1
        read = tensors_in(inputs)
        for source in self._sources(read):
            source.output = False
        origin = self._origins.of(read[0]) if read else NOWHERE
        self._inputs[call] = (origin.layer.name if origin.layer else None, origin.nonnegative)
        self._origins.note(out, Origin(axis, call, self._order, None, frozenset({call})))
        if call in self._sites and self._sites[call] is None:
            return None
        if call in self.layers and self.layers[call].activation is not None:
            return None
        layer = self._register(Layer(call, out.shape[axis], stored_axis(axis, out.dim()), out.device), owner)
        self._sites[call] = layer
        return layer

    def _activate(self, call: str, activation: str, function: Activation, z: Tensor) -> Layer | None:
        origin = self._origins.of(z)
        axis = guessed_axis(z) if origin.axis is None else origin.axis
        owner = origin.owner
        taken = self.layers.get(owner) if owner else None
        if taken is not None and taken.activation not in (None, activation):
            owner = None
        if owner is None:
            self._order += 1
        if taken is not None and taken.activation is None and owner is not None:
            taken.superseded = True
            del self.layers[owner]
            self._sites[owner] = None
        layer = Layer(owner or call, z.shape[axis], stored_axis(axis, z.dim()), z.device, function, activation)
        layer.order = origin.order if owner else self._order
        return self._register(layer, owner.split("#")[0] if owner else None)

    def _register(self, layer: Layer, owner: str | None) -> Layer | None:
        if not self.patterns.wanted(layer.name):
            self.unknown[layer.name] = "excluded"
            return None
        known = self.layers.get(layer.name)
        if known is not None:
            if known.neurons != layer.neurons:
                self.unknown[layer.name] = f"changes its width from {known.neurons} to {layer.neurons}"
                return None
            known.axis = layer.axis
            return known
        layer.order = layer.order or self._order
        layer.owner = owner
        if owner is not None:
            _know_weight(layer, owner, self.modules.get(owner))
            layer.before, layer.nonnegative = self._inputs.get(layer.name, (None, False))
        self.layers[layer.name] = layer
        return layer

    def _sources(self, tensors: Iterable[Tensor]) -> list[Layer]:
        return [self.layers[name] for name in self._origins.sources(tensors) if name in self.layers]

    def _find_gates(self, tensors: list[Tensor]) -> None:
        factors = [t for t in tensors if t.dim() > 0 and not isinstance(t, nn.Parameter)]
        if len(factors) >= 2:
            for factor in factors:
                layer = self._origins.of(factor).layer
                if layer is not None:
                    layer.gate = True


def _know_weight(layer: Layer, owner: str, module: nn.Module | None) -> None:
    """Note the weight of ``layer``: its name, along which axis its neurons lie, and its fans."""
    if module is None:
        return
    own = {clean_name(name): p for name, p in module.named_parameters() if p.dim() >= 2}
    name = next((n for n in ("weight", "parametrizations.weight.original", *own) if n in own), None)
    if name is None:
        return
    weight = own[name]
    layer.weight = f"{owner}.{name}" if owner else name
    swapped = (type(module).__name__ == "Conv1D" and weight.dim() == 2) or getattr(module, "transposed", False)
    axis = 1 if swapped else 0
    if weight.shape[axis] == layer.neurons:
        layer.weight_axis = axis
        layer.fan_in = weight.numel() // layer.neurons
        layer.fan_out = layer.neurons * math.prod(weight.shape[2:])
