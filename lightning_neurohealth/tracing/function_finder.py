"""Finds the layers of plain functions: activations, weights that are applied without their module, and attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lightning_neurohealth.activations import Activation
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.tracing.calls import Calls
from lightning_neurohealth.tracing.composed import Composed
from lightning_neurohealth.tracing.gates import find_gates, is_bounded
from lightning_neurohealth.tracing.heads import heads_axis, heads_in, heads_name
from lightning_neurohealth.tracing.origins import (
    CONVOLUTIONS,
    MIXTURES,
    MULTIPLICATIONS,
    PRODUCTS,
    WEIGHTED,
    Origin,
    function_name,
    tensors_in,
)
from lightning_neurohealth.tracing.owners import Owners
from lightning_neurohealth.tracing.sightings import Sightings
from lightning_neurohealth.tracing.weights import applied_weight


class FunctionFinder:
    """Is told of every call of a function while a step is traced.

    Attributes:
        layers: Those whose activation is a function, by call.
        composed: Recognises activations that are written out.
        inner: Calls of known activations that are parts of one that is written out.
    """

    def __init__(self, modules: Mapping[str, nn.Module], calls: Calls, owners: Owners, seen: Sightings) -> None:
        self._modules, self._calls, self._owners, self._seen = modules, calls, owners, seen
        self._origins = seen.origins
        self.layers: dict[str, Layer] = {}
        self.composed = Composed()
        self.inner: set[str] = set()
        self._weights_used = False
        self._arithmetic: set[str] = set()
        self._outside: set[str] = set()
        self._read: Tensor | None = None

    @property
    def used(self) -> bool:
        """Whether the model has layers that no hook of a module sees."""
        return bool(self.layers) or self._weights_used

    def clear(self) -> None:
        """Forget the tensors of a step."""
        self.composed.clear()
        self._read = None

    def activated(self, caller: str | None, function: Activation, z: Tensor) -> Layer | None:
        """A plain function is about to be applied to ``z`` within the module ``caller``; ``None`` if within none."""
        call = self._calls.numbered(f"{caller}.{function.name}" if caller else function.name)
        if call in self._arithmetic or call in self.inner:
            return None
        if function.periodic and not self._origins.of(z).sources:
            return None  # what encodes places or time
        self.composed.applied(call, z)
        return self._apply(call, caller, function, z)

    def applied(self, function: Any, z: Any, out: Any) -> None:
        """It has given ``out``."""
        if isinstance(z, Tensor) and isinstance(out, Tensor):
            self.composed.follow(function_name(function), [z], out)

    def what_was_read(self) -> Tensor | None:
        """What the activation that ``called`` has just found written out has read, once."""
        read, self._read = self._read, None
        return read

    def called(
        self, caller: str | None, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> Layer | None:
        """Some other function has run within ``caller``: carry origins over, and find weights used without a module."""
        tensors = tensors_in((*args, *kwargs.values()))
        if not isinstance(out, Tensor):
            if isinstance(out, (tuple, list)) and tensors:
                self._origins.split(tensors[0], out)
            return None
        name = function_name(function)
        if name in PRODUCTS or name in CONVOLUTIONS:
            axis = 1 if name in CONVOLUTIONS and out.dim() > 2 else out.dim() - 1
            within = self._owners.has(caller)
            applied = None if within else applied_weight(name, tensors, out, self._origins.parameter)
            if applied is not None:
                self._weights_used = True
                path = self._owners.paths[id(applied.parameter)]
                call = self._calls.numbered(path)
                self._seen.applied[call] = applied
                return self._seen.produce(call, self._owners.homes[path], applied.out_axis, tuple(applied.inputs), out)
            if not within and name not in WEIGHTED:
                find_gates(self._origins, [t for t in tensors if is_bounded(self._origins, t)])
            sources, carried = self._origins.sources(tensors), self._origins.carried(tensors)
            self._origins.note(out, Origin(axis=axis, sources=sources, carried=carried))
            self._attend(caller, name, args, tensors, out)
            return None
        root = self.composed.follow(name, tensors, out)
        layer = None if root is None else self._compose(caller, root, out)
        if layer is not None:
            return layer
        if name in MULTIPLICATIONS:
            find_gates(self._origins, tensors)
        elif name in MIXTURES:
            find_gates(self._origins, tensors[MIXTURES[name] :], alone=True)
        self._origins.carry(name, args, kwargs, tensors, out)
        self._attend(caller, name, args, tensors, out)
        return None

    def drop_arithmetic(self) -> None:
        """A function outside all modules with weights, whose result no weight reads, is the arithmetic of a loss."""
        for call in self._outside & self.layers.keys():
            layer = self.layers[call]
            if layer.output:
                self._arithmetic.add(call)
                self._seen.drop_activation(self.layers.pop(call))
        self._outside.clear()

    # How

    def _apply(self, call: str, caller: str | None, function: Activation, z: Tensor) -> Layer | None:
        layer = self._seen.activate(call, function.name, function, z)
        module = None if caller is None else self._modules.get(caller)
        if layer is not None:
            self.layers[call] = layer
            if module is None or not any(True for _ in module.parameters()):
                self._outside.add(call)
        return layer

    def _attend(
        self, caller: str | None, function: str, args: tuple[Any, ...], tensors: list[Tensor], out: Tensor
    ) -> None:
        axis = heads_axis(function, args, out, bool(tensors) and self._origins.of(tensors[0]).shares)
        if axis is not None:
            name = self._calls.numbered(heads_name(caller))
            self._seen.note_attention(heads_in(name, out, axis, self._origins.of(out).carried), out)

    def _compose(self, caller: str | None, root: Tensor, out: Tensor) -> Layer | None:
        within = f"{caller}." if caller else ""
        function = self.composed.verdict(self._calls.numbered(f"{within}product"), root, out)
        if function is None:
            return None
        for inner in self.composed.inner(root):
            self.inner.add(inner)
            self._outside.discard(inner)
            part = self.layers.pop(inner, None) or self._seen.sites.get(inner)
            if part is not None:
                self._seen.drop(part)
        self._seen.free(self.inner)
        self._read = root
        return self._apply(self._calls.numbered(within + function.name), caller, function, root)
