"""Hands each signal of a layer on as ``[outer, neurons, inner]``.

Statistics are taken inside the hook: what runs next may change a tensor in place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_neurohealth.folding import fold, some_samples
from lightning_neurohealth.hooks import recomputing
from lightning_neurohealth.layers import Layer, Subject, axis_in
from lightning_neurohealth.sharding import Part, piece
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.tracing.finder import LayerFinder


class Shortcut(Protocol):
    """A shorter way for tensors of one subject that lie in memory as an earlier one did."""

    def take(self, x: Tensor) -> bool:
        """Take ``x`` as it is; false, and nothing is done, if it lies otherwise."""


class Products(Protocol):
    """The same for the product of two tensors."""

    def take(self, a: Tensor, gradient: Tensor) -> bool:
        """Take ``a`` times ``gradient``; false, and nothing is done, if one lies otherwise."""


class Receiver(Protocol):
    """Who takes the signals."""

    def take(self, subject: Subject, signal: Signal, x: Tensor, part: Part | None = None) -> None:
        """``x`` is ``[outer, neurons, inner]``, detached, and valid only during the call; ``part``: which neurons."""

    def wants(self, signal: Signal) -> bool:
        """False where nothing would be done with it."""

    def shortcut(self, subject: Subject, signal: Signal, x: Tensor, folded: Tensor) -> Shortcut | None:
        """One for further tensors that lie as ``x`` does, which ``take`` got as ``folded``."""

    def products(
        self, layer: Layer, a: Tensor, gradient: Tensor, laid_out: tuple[Tensor, Tensor], axis: int
    ) -> Products | None:
        """One for further pairs that lie as these do; ``laid_out`` are the same, with the neurons on ``axis``."""


def laid_out(x: Tensor, layer: Layer) -> Tensor:
    """What this rank holds of ``x``, in which each neuron has its place on one axis."""
    if type(x) is not Tensor:
        x = piece(x)
    return x.unflatten(-1, (-1, layer.channels)) if layer.channels and x.dim() else x


class Delivery:
    """What becomes of the tensors that hooks see.

    Attributes:
        armed: True during a measured step; everything is idle otherwise.
        backward: True while gradients of activations are wanted.
        failure: Called once with the first exception of ours; no more is delivered then, and training goes on.
        phase: Which samples of large signals are taken, ``None`` for all.
        keep: Gets each layer's activation in its own shape, where somebody must tell samples apart.
    """

    def __init__(self, finder: LayerFinder, receiver: Receiver) -> None:
        self.finder, self.receiver = finder, receiver
        self.armed = False
        self.backward = True
        self.failure: Callable[[BaseException], None] | None = None
        self.phase: int | None = None
        self.keep: Callable[[Layer, Tensor], None] | None = None
        self._accepted: dict[Layer, tuple[torch.Size, torch.dtype, torch.layout]] = {}
        self._shortcuts: dict[tuple[Layer, Signal], Shortcut] = {}
        self._products: dict[Layer, Products] = {}
        self._heard: set[Layer] = set()
        self._listeners: dict[Layer, Callable[[Tensor], None]] = {}
        self._wants_effects = receiver.wants(Signal.ACTIVATION_TIMES_GRADIENT)

    def guarded(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run ``call``; nothing of ours may end a user's run."""
        try:
            with torch._C.DisableTorchFunction():
                return call(*args)
        except Exception as error:
            self.armed = False
            if self.failure is None:
                raise
            self.failure(error)
            return None

    def _activation(self, layer: Layer, a: Tensor) -> None:
        if not recomputing():
            if self.finder.tracing and layer.activation is not None:
                self.finder.leave(layer, a)
            self._send(layer, Signal.ACTIVATION, a)
            if self.keep is not None:
                self.keep(layer, a)
        self._listen(layer, a)

    def _listen(self, layer: Layer, a: Tensor) -> None:
        if a.requires_grad:
            if self._wants_effects:
                hook: Callable[[Tensor], None] = partial(self._gradient, layer, (a.detach(), a._version))
            else:
                hook = self._listeners.get(layer) or self._listeners.setdefault(
                    layer, partial(self._gradient, layer, None)
                )
            node = a.grad_fn
            if node is None:
                a.register_hook(hook)
            else:  # several times faster
                node.register_prehook(partial(_only, hook, a.output_nr))
            if layer not in self._heard:
                self._heard.add(layer)
                self.finder.recall.heard(layer)
        elif not torch.is_grad_enabled():
            self.finder.recall.unheard(layer)

    def _gradient(self, layer: Layer, kept: tuple[Tensor, int] | None, gradient: Tensor) -> None:
        if self.armed and self.backward and not layer.superseded:
            self.guarded(self._send, layer, Signal.ACTIVATION_GRADIENT, gradient)
            # an activation that was changed in place since is not what the gradient belongs to
            if kept is not None and kept[0]._version == kept[1]:
                self.guarded(self._effect, layer, kept[0], gradient)

    def _effect(self, layer: Layer, a: Tensor, gradient: Tensor) -> None:
        products = self._products.get(layer)
        if products is not None and products.take(a, gradient):
            return
        x, y = both = laid_out(a, layer), laid_out(gradient.detach(), layer)
        if self._accepts(layer, x):
            products = self.receiver.products(layer, a, gradient, both, axis_in(layer, x))
            if products is not None and products.take(a, gradient):
                self._products[layer] = products
                return
        if self.phase is not None:
            x, y = (some_samples(t, axis_in(layer, t), self.phase) for t in both)
        # the product of two halves overflows, and memory in channels-last order has no inner axis to sum over later
        effect = x.to(torch.promote_types(x.dtype, torch.float32)) * y
        inner = range(axis_in(layer, effect) + 1, effect.dim())
        if inner:
            effect = effect.sum(tuple(inner), keepdim=True)
        self._take(layer, Signal.ACTIVATION_TIMES_GRADIENT, effect)

    def _deliver(self, layer: Layer, signal: Signal, x: Tensor) -> None:
        if not recomputing():
            self._send(layer, signal, x)

    def _send(self, layer: Layer, signal: Signal, x: Tensor) -> None:
        shortcut = self._shortcuts.get((layer, signal))
        if shortcut is not None and shortcut.take(x):
            return
        folded = self._take(layer, signal, laid_out(x, layer))
        shortcut = None if folded is None else self.receiver.shortcut(layer, signal, x, folded)
        if shortcut is not None:
            self._shortcuts[layer, signal] = shortcut

    def _take(self, layer: Layer, signal: Signal, x: Tensor) -> Tensor | None:
        if torch._C._functorch.is_functorch_wrapped_tensor(x):
            self.finder.unknown[layer.name] = "called under vmap or another transform of torch.func, which hides rows"
            return None
        kind = (x.shape, x.dtype, x.layout)
        if self._accepted.get(layer) != kind:
            if not self._accepts(layer, x):
                return None
            self._accepted[layer] = kind
        folded = fold(x.detach(), axis_in(layer, x))
        self.receiver.take(layer, signal, folded)
        return folded

    def _accepts(self, layer: Layer, x: Tensor) -> bool:
        if x.dim() == 0:
            return False
        if not x.is_floating_point() or x.layout != torch.strided:
            kind = x.dtype if x.layout == torch.strided else x.layout
            self.finder.unknown.setdefault(layer.name, f"gives numbers that are not measured ({kind})")
            return False
        neurons = x.shape[axis_in(layer, x)]
        if neurons != (layer.neurons if layer.part is None else layer.part.width):
            self.finder.unknown[layer.name] = f"changes its width, from {layer.neurons} to {neurons}"
            return False
        return True


def _only(hook: Callable[[Tensor], None], place: int, gradients: tuple[Tensor | None, ...]) -> None:
    gradient = gradients[place]
    if gradient is not None:
        hook(gradient)
