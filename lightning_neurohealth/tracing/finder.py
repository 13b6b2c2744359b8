"""Finds the layers of a running model: which module owns the weight, which activation follows, where the neurons lie.

The finder is told of every call while a step runs (by :mod:`lightning_neurohealth.taps`) and follows tensors from the
module that wrote them to the activation that reads them, through norms, dropout, reshapes and permutations. Shape alone
does not tell the neuron axis, ``(N, C, T)`` and ``(N, T, D)`` look alike: the producer does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from lightning_neurohealth.activations import Activation
from lightning_neurohealth.layers import (
    ROOT,
    Layer,
    clean_name,
    is_owner,
    neuron_axis,
    own_function,
)
from lightning_neurohealth.patterns import Patterns
from lightning_neurohealth.sharding import piece
from lightning_neurohealth.tracing.calls import Calls
from lightning_neurohealth.tracing.composed import Composed
from lightning_neurohealth.tracing.gates import find_gates, is_bounded
from lightning_neurohealth.tracing.heads import HIDDEN, Heads, heads_axis, heads_in, heads_name
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
from lightning_neurohealth.tracing.patience import Patience
from lightning_neurohealth.tracing.recall import Recall
from lightning_neurohealth.tracing.sightings import Sightings
from lightning_neurohealth.tracing.weights import applied_weight, shared_neurons


class LayerFinder:
    """Follows one model's tensors and keeps the layers that it has found, in the order of execution.

    While ``tracing``, origins are followed and layers are made; afterwards a table of calls answers, until a call comes
    that it does not know. Activations that are plain functions have no module to hook, so a model that uses them is
    traced at every measured step.

    Attributes:
        heads: Of the call of a module that came last, the layer of the heads of attention that it has read.
        recall: Of what runs again while backward does.
    """

    def __init__(self, model: nn.Module, patterns: Patterns, seeks_heads: bool = True) -> None:
        self.patterns = patterns
        self.modules = {clean_name(name): module for name, module in model.named_modules()}
        self.calls = Calls()
        self.tracing = True
        self._owners = Owners(model, self.modules)
        self._seen = Sightings(self.modules, self._owners, patterns)
        self.layers, self.unknown = self._seen.layers, self._seen.unknown
        self._origins = self._seen.origins
        self._patience = Patience(
            {name for name, module in self.modules.items() if name and patterns.wanted(name) and is_owner(module)}
        )
        self._functions: dict[str, Layer] = {}
        self._weights_used = False
        self._arithmetic: set[str] = set()
        self._outside: set[str] = set()
        self._composed = Composed()
        self._inner: set[str] = set()
        self._read: Tensor | None = None
        self._seen.seeks_heads = seeks_heads
        self.heads: Layer | None = None
        self.recall = Recall(self.calls, self._functions, self._composed, self.unknown)

    def begin_step(self) -> None:
        """Forget the tensors of the last step."""
        self._seen.begin_step()
        self._composed.clear()
        self.recall.clear()
        self.calls.begin_step()

    def end_step(self) -> None:
        """Stop tracing once a whole step was seen and the table knows it all."""
        self._origins.clear()
        self._composed.clear()
        self.recall.clear()
        self._read = None
        if not self.tracing and not self._patience.missed:
            return
        if self.tracing:
            self._drop_arithmetic()
            self._seen.settle_order()
            self._seen.settle_heads()
        waits = self._patience.waits(self._seen.sites.keys(), self.tracing)
        self.tracing = bool(self._functions) or self._weights_used or not self.layers or waits

    def recalled(self, name: str) -> Layer | None:
        """The layer of a call that runs again while backward does."""
        call = self.calls.renumbered(name or ROOT, self._seen.sites)
        self.heads = self._seen.heads.get(call)
        return self._seen.sites.get(call)

    def ordered(self) -> list[Layer]:
        """All layers in the order of execution."""
        return sorted(self.layers.values(), key=lambda layer: layer.order)

    # Calls of modules

    def produced(
        self, module: nn.Module, name: str, inputs: tuple[Any, ...], out: Tensor, others: Iterable[Tensor] = ()
    ) -> Layer | None:
        """A module with a weight has written ``out``; gives the layer to measure there, if any.

        ``others`` are what it has written beside that, such as the last state of an RNN.
        """
        call = self.calls.numbered(name)
        if not self.tracing:
            self.heads = self._seen.heads.get(call)
            return self._known(call)
        axis = neuron_axis(module, out)
        part = shared_neurons(module, piece(out).shape[axis])
        if part is not None:
            self._seen.parts[call] = part
        layer = self._seen.produce(call, name, axis, inputs, out, own_function(module))
        self.heads = self._seen.heads.get(call)
        for other in others:
            self._origins.note(other, Origin(sources=frozenset({call}), carried=frozenset({call})))
        return layer

    def activated(self, name: str, function: Activation, z: Tensor | None) -> Layer | None:
        """An activation module is about to read ``z``; gives its layer."""
        call = self.calls.numbered(name)
        if not self.tracing:
            return self._known(call)
        layer = None
        if z is not None:
            self._composed.applied(call, z)
            layer = None if call in self._inner else self._seen.activate(call, name or ROOT, function, z)
        self._seen.sites[call] = layer
        return layer

    def module_applied(self, function: Activation, z: Tensor, out: Tensor) -> None:
        """It has given ``out``."""
        self._composed.follow(function.name, [z], out)

    def attended(self, name: str, module: nn.MultiheadAttention, given: Tensor | None, inputs: tuple[Any, ...]) -> None:
        """A module has attended to ``inputs``; ``given`` is what its heads give, ``None`` where that is hidden."""
        name = heads_name(name)
        if not self.tracing or not self._seen.seeks_heads:
            return
        if given is None:
            if name not in self.layers:
                self.unknown[name] = HIDDEN
            return
        if self.unknown.get(name) == HIDDEN:
            del self.unknown[name]
        sources = self._origins.carried(tensors_in(inputs))
        self._origins.note(given, Origin(heads=Heads(self.calls.numbered(name), module.num_heads, None, sources)))

    def leave(self, layer: Layer | None, a: Tensor) -> None:
        """``a`` is the activation of ``layer``."""
        if self.tracing and layer is not None:
            self._seen.leave(layer, a)

    # Calls of functions

    def function_activated(self, caller: str | None, function: Activation, z: Tensor) -> Layer | None:
        """A plain function is about to be applied to ``z`` within the module ``caller``; ``None`` if within none."""
        call = self.calls.numbered(f"{caller}.{function.name}" if caller else function.name)
        if call in self._arithmetic or call in self._inner:
            return None
        if function.periodic and not self._origins.of(z).sources:
            return None  # what encodes places or time
        self._composed.applied(call, z)
        return self._apply(call, caller, function, z)

    def function_applied(self, function: Any, z: Any, out: Any) -> None:
        """It has given ``out``."""
        if isinstance(z, Tensor) and isinstance(out, Tensor):
            self._composed.follow(function_name(function), [z], out)

    def what_was_read(self) -> Tensor | None:
        """What the activation that ``function_called`` has just found written out has read, once."""
        read, self._read = self._read, None
        return read

    def _apply(self, call: str, caller: str | None, function: Activation, z: Tensor) -> Layer | None:
        layer = self._seen.activate(call, function.name, function, z)
        module = None if caller is None else self.modules.get(caller)
        if layer is not None:
            self._functions[call] = layer
            if module is None or not any(True for _ in module.parameters()):
                self._outside.add(call)
        return layer

    def function_called(
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
                call = self.calls.numbered(path)
                self._seen.applied[call] = applied
                return self._seen.produce(call, self._owners.homes[path], applied.out_axis, tuple(applied.inputs), out)
            if not within and name not in WEIGHTED:
                find_gates(self._origins, [t for t in tensors if is_bounded(self._origins, t)])
            sources, carried = self._origins.sources(tensors), self._origins.carried(tensors)
            self._origins.note(out, Origin(axis=axis, sources=sources, carried=carried))
            self._attend(caller, name, args, tensors, out)
            return None
        root = self._composed.follow(name, tensors, out)
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

    # How

    def _attend(
        self, caller: str | None, function: str, args: tuple[Any, ...], tensors: list[Tensor], out: Tensor
    ) -> None:
        axis = heads_axis(function, args, out, bool(tensors) and self._origins.of(tensors[0]).shares)
        if axis is not None:
            name = self.calls.numbered(heads_name(caller))
            self._seen.note_attention(heads_in(name, out, axis, self._origins.of(out).carried), out)

    def _compose(self, caller: str | None, root: Tensor, out: Tensor) -> Layer | None:
        within = f"{caller}." if caller else ""
        function = self._composed.verdict(self.calls.numbered(f"{within}product"), root, out)
        if function is None:
            return None
        for inner in self._composed.inner(root):
            self._inner.add(inner)
            self._outside.discard(inner)
            part = self._functions.pop(inner, None) or self._seen.sites.get(inner)
            if part is not None:
                self._seen.drop(part)
        self._seen.free(self._inner)
        self._read = root
        return self._apply(self.calls.numbered(within + function.name), caller, function, root)

    def _drop_arithmetic(self) -> None:
        """A function outside all modules with weights, whose result no weight reads, is the arithmetic of a loss."""
        for call in self._outside & self._functions.keys():
            layer = self._functions[call]
            if layer.output:
                self._arithmetic.add(call)
                self._seen.drop_activation(self._functions.pop(call))
        self._outside.clear()

    def _known(self, call: str) -> Layer | None:
        try:
            return self._seen.sites[call]
        except KeyError:
            self._patience.missed.add(call)
            return None
