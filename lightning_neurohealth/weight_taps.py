"""Delivers gradients and updates of the weights of layers, by neuron."""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

import torch
from torch import Tensor

from lightning_neurohealth.delivery import Receiver, Shortcut
from lightning_neurohealth.folding import thin
from lightning_neurohealth.layer_weights import LayerWeights, by_neuron
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.neuron_norms import NeuronNorms
from lightning_neurohealth.parameters import Parameters, is_one, unscaled
from lightning_neurohealth.sharding import Part, is_split, leads
from lightning_neurohealth.signals import Signal


class Changes(Protocol):
    """A shorter way for how a weight changes that lies in memory as it did before."""

    def keep(self, x: Tensor) -> bool:
        """Keep ``x`` as it is; false, and nothing is done, if it lies otherwise."""

    def take(self, x: Tensor) -> None:
        """Take how it has changed since; nothing, if it lies otherwise now."""


class WeightReceiver(Receiver, Protocol):
    """Who takes the signals of weights."""

    def change(self, layer: Layer, signal: Signal, x: Tensor, folded: Tensor) -> Changes | None:
        """One for a weight that goes on to lie as ``x`` does, and was ``folded`` to ``[1, neurons, fan-in]``."""


class WeightTaps:
    """Reads the weights of layers around an optimizer step.

    What costs a copy of every weight (``WEIGHT_UPDATE``) is taken only where a measure asks for it.

    Args:
        weights: Those of the layers.
        wanted: The signals that some measure needs.
    """

    def __init__(
        self, parameters: Parameters, weights: LayerWeights, receiver: WeightReceiver, wanted: Container[Signal]
    ) -> None:
        self.parameters, self.weights, self.receiver = parameters, weights, receiver
        self._wants_update = Signal.WEIGHT_UPDATE in wanted
        self._wants_gradient, self._wants_norms = Signal.WEIGHT_GRADIENT in wanted, Signal.NEURON_GRADIENT in wanted
        self._before: dict[Layer, tuple[Tensor, Part | None] | Changes] = {}
        self._changes: dict[Layer, Changes] = {}
        self._versions: list[int] = []
        self._phase: int | None = None
        self._shortcuts: dict[tuple[Layer, Signal], Shortcut] = {}
        self._norms: NeuronNorms | None = None

    @property
    def owes(self) -> bool:
        """True until it is known what the last measured step has changed."""
        return bool(self._before)

    def begin_step(self, phase: int | None) -> None:
        """A measured step begins; ``phase`` says which elements of large weights are looked at, ``None`` for all."""
        self._phase = None if self.parameters.pieces.any else phase
        self._before = {}
        if self._wants_update:
            self._versions = [p._version for p in self.parameters.tensors]
            self.keep()

    def keep(self) -> None:
        """Keep weights as they are before the update, of layers of which that was not done yet in this step."""
        if self._wants_update:
            for layer, (weight, axis) in self.weights.applied().items():
                # a weight that has changed since the step began is not what it was before
                if layer in self._before or not self.weights.unchanged(layer, self._versions):
                    continue
                changes = self._changes.get(layer) if self._thins else None
                if changes is not None and changes.keep(weight):
                    self._before[layer] = changes
                else:
                    some = self._some(by_neuron(weight, axis), copy=True)
                    self._before[layer] = some, self.weights.part(weight, axis)

    # Gradients

    def norms(self) -> NeuronNorms | None:
        """What makes norms of neurons of squares that are summed in C anyway; ``None`` where no measure needs them."""
        if not self._wants_norms or self.parameters.pieces.any:
            return None
        trained = self.weights.trained()
        if self._norms is None or self._norms.trained is not trained:
            self._norms = NeuronNorms(trained, self.weights.bias, self.parameters.tensors)
        return self._norms

    def read_gradients(self, own: Container[int] | None, scale: Tensor | float, norms: NeuronNorms | None) -> None:
        """Deliver the gradients of weights.

        Args:
            own: Ids of the parameters that are looked at, ``None`` for all.
            scale: What gradients are still multiplied with.
            norms: Holds those of this step, ``None`` if nobody has made them.
        """
        if not (self._wants_gradient or self._wants_norms):
            return
        direct = is_one(scale) and not self.parameters.pieces.any
        for layer, (weight, axis) in self.weights.trained().items():
            if weight.grad is None or not (own is None or id(weight) in own):
                continue
            if self._wants_gradient and not (direct and self._took(layer, Signal.WEIGHT_GRADIENT, weight.grad)):
                gradient = by_neuron(unscaled(weight.grad, scale), axis)
                part = self.weights.part(weight, axis)
                some = self._some(gradient, copy=part is None)  # it may wait until clipping has changed it
                self.receiver.take(layer, Signal.WEIGHT_GRADIENT, some, part)
                if direct:
                    self._learn(layer, Signal.WEIGHT_GRADIENT, weight.grad, gradient)
            if self._wants_norms:
                row = None if norms is None else norms.rows.get(layer)
                if row is None:
                    row = self._norms_of(layer, weight, axis, scale)
                elif self._took(layer, Signal.NEURON_GRADIENT, row):
                    continue
                self.receiver.take(layer, Signal.NEURON_GRADIENT, row, self.weights.part(weight, axis, whole=True))
                if direct:
                    self._learn(layer, Signal.NEURON_GRADIENT, row, row)

    def _norms_of(self, layer: Layer, weight: Tensor, axis: int, scale: Tensor | float) -> Tensor:
        gradient = by_neuron(unscaled(weight.grad, scale), axis)
        single = torch.promote_types(gradient.dtype, torch.float32)
        norms = torch.linalg.vector_norm(gradient, dim=2, dtype=single).double()
        bias = self.weights.bias(layer)
        # a bias counts once where several ranks have a piece of a neuron's weights
        if bias is not None and bias.grad is not None and (is_split(bias) or leads(weight)):
            norms = torch.hypot(norms, unscaled(bias.grad.double(), scale).reshape(1, -1))
        return norms.unsqueeze(-1)

    def _took(self, layer: Layer, signal: Signal, x: Tensor) -> bool:
        shortcut = self._shortcuts.get((layer, signal))
        return shortcut is not None and shortcut.take(x)

    def _learn(self, layer: Layer, signal: Signal, x: Tensor, folded: Tensor) -> None:
        shortcut = self.receiver.shortcut(layer, signal, x, folded)
        if shortcut is not None:
            self._shortcuts[layer, signal] = shortcut

    # Updates

    def after_update(self) -> None:
        """Deliver what the last measured step has changed."""
        before, self._before = self._before, {}
        if not before:
            return
        now = self.weights.applied()
        for layer, kept in before.items():
            if layer not in now:
                continue
            weight, axis = now[layer]
            if not isinstance(kept, tuple):
                kept.take(weight)
                continue
            some, part = kept
            folded = by_neuron(weight, axis)
            self.receiver.take(layer, Signal.WEIGHT_UPDATE, self._some(folded) - some, part)
            changes = self.receiver.change(layer, Signal.WEIGHT_UPDATE, weight, folded) if self._thins else None
            if changes is not None:
                self._changes[layer] = changes

    def forget_update(self) -> None:
        """It will not be known."""
        self._before = {}

    @property
    def _thins(self) -> bool:
        """True if a part of the rows stands for all; what takes changes by a shorter way does not take all."""
        return self._phase is not None

    def _some(self, weight: Tensor, copy: bool = False) -> Tensor:
        if self._phase is not None:
            return thin(weight, None, self._phase)
        return weight.clone() if copy else weight
