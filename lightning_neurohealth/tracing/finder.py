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
from lightning_neurohealth.layers import ROOT, Layer, clean_name, is_owner, neuron_axis, own_function
from lightning_neurohealth.patterns import Patterns
from lightning_neurohealth.sharding import piece
from lightning_neurohealth.tracing.calls import Calls
from lightning_neurohealth.tracing.function_finder import FunctionFinder
from lightning_neurohealth.tracing.heads import HIDDEN, Heads, heads_name
from lightning_neurohealth.tracing.origins import Origin, tensors_in
from lightning_neurohealth.tracing.owners import Owners
from lightning_neurohealth.tracing.patience import Patience
from lightning_neurohealth.tracing.recall import Recall
from lightning_neurohealth.tracing.sightings import Sightings
from lightning_neurohealth.tracing.weights import shared_neurons


class LayerFinder:
    """Follows one model's tensors and keeps the layers that it has found, in the order of execution.

    While ``tracing``, origins are followed and layers are made; afterwards a table of calls answers, until a call comes
    that it does not know. Activations that are plain functions have no module to hook, so a model that uses them is
    traced at every measured step.

    Attributes:
        heads: Of the call of a module that came last, the layer of the heads of attention that it has read.
        functions: Finds the layers of plain functions.
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
        self.functions = FunctionFinder(self.modules, self.calls, self._owners, self._seen)
        self._seen.seeks_heads = seeks_heads
        self.heads: Layer | None = None
        self.recall = Recall(self.calls, self.functions.layers, self.functions.composed, self.unknown)

    def begin_step(self) -> None:
        """Forget the tensors of the last step."""
        self._seen.begin_step()
        self.functions.clear()
        self.recall.clear()
        self.calls.begin_step()

    def end_step(self) -> None:
        """Stop tracing once a whole step was seen and the table knows it all."""
        self._origins.clear()
        self.functions.clear()
        self.recall.clear()
        if not self.tracing and not self._patience.missed:
            return
        if self.tracing:
            self.functions.drop_arithmetic()
            self._seen.settle_order()
            self._seen.settle_heads()
        waits = self._patience.waits(self._seen.sites.keys(), self.tracing)
        self.tracing = self.functions.used or not self.layers or waits

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
            self.functions.composed.applied(call, z)
            layer = None if call in self.functions.inner else self._seen.activate(call, name or ROOT, function, z)
        self._seen.sites[call] = layer
        return layer

    def module_applied(self, function: Activation, z: Tensor, out: Tensor) -> None:
        """It has given ``out``."""
        self.functions.composed.follow(function.name, [z], out)

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

    def _known(self, call: str) -> Layer | None:
        try:
            return self._seen.sites[call]
        except KeyError:
            self._patience.missed.add(call)
            return None
