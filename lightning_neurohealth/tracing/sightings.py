"""The layers of one model that were seen: who owns them, what they read, and in which order."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lightning_neurohealth.activations import IDENTITY, Activation
from lightning_neurohealth.layers import ROOT, Layer, axis_in, merged_order
from lightning_neurohealth.patterns import Patterns
from lightning_neurohealth.sharding import Part, piece
from lightning_neurohealth.tracing.heads import UNREAD, Heads, heads_layer
from lightning_neurohealth.tracing.origins import NOWHERE, Origin, Origins, guessed_axis, stored_axis, tensors_in
from lightning_neurohealth.tracing.owners import Owners
from lightning_neurohealth.tracing.weights import Applied, know_weight


class Sightings:
    """Makes a layer of each call that writes or reads neurons, or finds the one that was made before.

    Attributes:
        layers: By name.
        unknown: Those that are not watched, each with the reason.
        sites: The layer to measure at each call of a module, ``None`` for none.
        origins: Of the tensors of the current step.
        owners: The modules with weights.
        parts: Which neurons this rank has of what a call writes, where ranks share them.
        applied: Weights that plain functions apply, by call.
        heads: Those of attention, by the call that reads them; sought where ``seeks_heads``.
    """

    def __init__(self, modules: Mapping[str, nn.Module], owners: Owners, patterns: Patterns) -> None:
        self._modules, self.owners, self._patterns = modules, owners, patterns
        self.layers: dict[str, Layer] = {}
        self.unknown: dict[str, str] = {}
        self.sites: dict[str, Layer | None] = {}
        self.origins = Origins(owners.paths)
        self.parts: dict[str, Part] = {}
        self.applied: dict[str, Applied] = {}
        self.heads: dict[str, Layer | None] = {}
        self.seeks_heads = True
        self._head_readers: dict[str, str] = {}
        self._attentions: set[str] = set()
        self._replaced: dict[str, Layer] = {}
        self._activated: dict[int, str] = {}
        self._inputs: dict[str, tuple[str | None, bool]] = {}
        self._carried: dict[str, frozenset[str]] = {}
        self._sequence: list[str] = []
        self._names_in_order: list[str] = []
        self._order = 0

    def begin_step(self) -> None:
        """Forget the tensors of the last step."""
        self.origins.clear()
        self._sequence.clear()
        self._activated.clear()
        self._order = 0

    def settle_order(self) -> None:
        """A step was seen: bring the layers in the order of execution."""
        self._names_in_order = merged_order([self._names_in_order, list(dict.fromkeys(self._sequence))])
        for place, name in enumerate(self._names_in_order):
            if name in self.layers:
                self.layers[name].order = place

    def produce(
        self,
        call: str,
        owner: str,
        axis: int,
        inputs: tuple[Any, ...],
        out: Tensor,
        function: Activation = IDENTITY,
    ) -> Layer | None:
        """``call`` of ``owner`` has read ``inputs`` and written ``out``; gives the layer to measure there, if any."""
        read = tensors_in(inputs)
        if read and call not in self.applied:
            self.attend(call, self.origins.of(read[0]).heads, read[0], self._modules.get(owner))
        self._order += 1
        self._sequence.append(call)
        for source in self.fed_by(read):
            source.output = False
        origin = self.origins.of(read[0]) if read else NOWHERE
        self._inputs[call] = (origin.layer.name if origin.layer else None, origin.nonnegative)
        self._carried[call] = self.origins.carried(read)
        self.origins.note(out, Origin(axis, call, self._order, None, frozenset({call}), frozenset({call})))
        if call in self.sites and self.sites[call] is None:
            return None
        known = self.layers.get(call)
        if known is not None and known.activation is not None and function.linear:
            return None
        activation = None if function.linear else function.name
        layer = self._register(self._layer(call, call, axis, out, function, activation), owner)
        self.sites[call] = layer
        return layer

    def note_attention(self, heads: Heads, given: Tensor) -> None:
        """Attention has given ``given``, in which ``heads`` lie."""
        self.origins.note(given, replace(self.origins.of(given), heads=heads))
        if heads.count and self.seeks_heads and self._patterns.wanted(heads.name):
            self._attentions.add(heads.name.split("#")[0])

    def settle_heads(self) -> None:
        """A step was seen: name attention of which no heads were found."""
        found = {layer.name.split("#")[0] for layer in self.heads.values() if layer is not None}
        for name in sorted(self._attentions):
            if name not in found:
                self.unknown.setdefault(name, UNREAD)
            elif self.unknown.get(name) == UNREAD:
                del self.unknown[name]

    def attend(self, call: str, heads: Heads | None, x: Tensor, reader: nn.Module | None) -> None:
        """``call`` of ``reader`` reads ``x``, in which ``heads`` lie."""
        if heads is not None and self.seeks_heads and self._head_readers.setdefault(heads.name, call) == call:
            layer = heads_layer(heads, x, reader)
            self.heads[call] = None if layer is None else self._register(layer, None)

    def activate(self, call: str, activation: str, function: Activation, z: Tensor) -> Layer | None:
        """``call`` is about to read ``z``; gives the layer whose activation it is."""
        origin = self.origins.of(z)
        axis = guessed_axis(z) if origin.axis is None else origin.axis
        owner = origin.owner
        taken = self.layers.get(owner) if owner else None
        again = owner is not None and self._activated.setdefault(origin.order, call) != call
        if again or (taken is not None and taken.activation not in (None, activation)):
            owner = None
        if owner is None:
            self._order += 1
            for source in self.fed_by([z]):
                source.output = False
        if taken is not None and taken.activation is None and owner is not None:
            taken.superseded = True
            self._replaced[owner] = taken
            del self.layers[owner]
            self.sites[owner] = None
        layer = self._layer(owner or call, owner, axis, z, function, activation)
        layer.order = origin.order if owner else self._order
        layer.normalized = owner is not None and origin.normalized
        path = owner.split("#")[0] if owner else None
        path = "" if path == ROOT and path not in self._modules else path
        return self._register(layer, path if path is None else self.owners.homes.get(path, path))

    def leave(self, layer: Layer, a: Tensor) -> None:
        """``a`` is the activation of ``layer``."""
        lower, own = layer.function.lower, frozenset({layer.name})
        nonnegative = lower is not None and lower >= 0
        axis = axis_in(layer, a)
        self.origins.note(a, Origin(axis, None, layer.order, layer, own, own, nonnegative=nonnegative))

    def drop(self, layer: Layer) -> None:
        """It is none."""
        if self.layers.get(layer.name) is layer:
            layer.superseded = True
            del self.layers[layer.name]

    def drop_activation(self, layer: Layer) -> None:
        """It has no activation after all: what it replaced is a layer again."""
        self.drop(layer)
        linear = self._replaced.get(layer.name)
        if linear is not None:
            linear.superseded = False
            self.layers[linear.name] = self.sites[linear.name] = linear

    def free(self, calls: Container[str]) -> None:
        """Let other calls be the activations of what ``calls`` have read in this step."""
        self._activated = {order: call for order, call in self._activated.items() if call not in calls}

    def fed_by(self, tensors: Iterable[Tensor]) -> list[Layer]:
        """The layers that feed any of ``tensors``."""
        return [self.layers[name] for name in self.origins.sources(tensors) if name in self.layers]

    # How

    def _layer(
        self, name: str, producer: str | None, axis: int, x: Tensor, function: Activation, activation: str | None
    ) -> Layer:
        part, neurons = self.parts.get(producer or ""), piece(x).shape[axis]
        if part is not None and part.width != neurons:
            part = None
        neurons = neurons if part is None else part.of
        return Layer(name, neurons, stored_axis(axis, x.dim()), x.device, function, activation, part=part, axes=x.dim())

    def _register(self, layer: Layer, owner: str | None) -> Layer | None:
        if not self._patterns.wanted(layer.name):
            self.unknown[layer.name] = "excluded"
            return None
        self._sequence.append(layer.name)
        known = self.layers.get(layer.name)
        if known is not None:
            if known.neurons != layer.neurons:
                self.unknown[layer.name] = f"changes its width from {known.neurons} to {layer.neurons}"
                return None
            known.axis, known.axes = layer.axis, layer.axes
            return known
        layer.order = layer.order or self._order
        layer.owner = owner
        layer.sources = layer.sources or self._carried.get(layer.name, frozenset())
        if owner is not None:
            know_weight(layer, owner, self._modules.get(owner), self.owners.names, self.applied.get(layer.name))
            before = self._replaced.get(layer.name)
            if layer.weight is None and before is not None:  # FSDP1 has taken it away since
                for name in ("weight", "weight_axis", "fan_in", "fan_out"):
                    setattr(layer, name, getattr(before, name))
            layer.before, layer.nonnegative = self._inputs.get(layer.name, (None, False))
        self.layers[layer.name] = layer
        return layer
