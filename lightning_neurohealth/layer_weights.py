"""The weights and biases of the layers that were found, by neuron."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_neurohealth.layers import Layer, is_owner
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.roster import identity
from lightning_neurohealth.sharding import Part, is_split, leads, part_of, piece
from lightning_neurohealth.tracing.finder import LayerFinder
from lightning_neurohealth.tracing.weights import computed_weight

REACH = 3.0
"""Standardised pre-activations are outside of [−3, 3] once in 370 times."""
PLACES = 24
"""An even number, so that no place lies on the kink at 0."""

Applied = dict[Layer, tuple[Tensor, int]]


class LayerWeights:
    """What a neuron of each layer has of its own.

    Attributes:
        strangers: Gives layers that only other ranks, or an earlier run, have seen: their weights are here too.
    """

    def __init__(self, parameters: Parameters, finder: LayerFinder) -> None:
        self.parameters, self.finder = parameters, finder
        self.strangers: Callable[[], list[Layer]] = list
        self._index = {name: i for i, name in enumerate(parameters.names)}
        self._trained: tuple[int, int, dict[Layer, tuple[Tensor, int]]] | None = None

    def layers(self) -> list[Layer]:
        """All layers whose weights this rank has, each once."""
        own = self.finder.ordered()
        known = {identity(layer) for layer in own}  # a layer whose rows another rank counts is a stranger here too
        return [*own, *(layer for layer in self.strangers() if identity(layer) not in known)]

    def trained(self) -> dict[Layer, tuple[Tensor, int]]:
        """The parameter that each layer trains, and the axis along which its neurons lie.

        The same mapping as before while nothing can have changed.
        """
        if self.finder.tracing or self.parameters.engine or self.parameters.pieces.any or self.parameters.slices:
            self._trained = None
            return self._find_trained()
        layers, strangers = len(self.finder.layers), len(self.strangers())
        if self._trained is None or self._trained[:2] != (layers, strangers):
            if any(map(is_lazy, self.parameters.tensors)):
                return self._find_trained()
            self._trained = layers, strangers, self._find_trained()
        return self._trained[2]

    def _find_trained(self) -> dict[Layer, tuple[Tensor, int]]:
        found: dict[Layer, tuple[Tensor, int]] = {}
        for layer in self.layers():
            index = self._index.get(layer.weight or "")
            weight = None if index is None else self.parameters.tensors[index]
            if weight is None or is_lazy(weight) or id(weight) in self.parameters.slices:
                continue
            axis = layer.weight_axis
            # FSDP1 and DeepSpeed leave a flat piece of it, or nothing, between two steps
            whole = axis is not None and axis < weight.dim() and weight.shape[axis] == layer.neurons
            if axis is not None and whole and weight.is_floating_point():
                found[layer] = (weight, axis)
        return found

    def by_neuron(self, applied: Applied) -> dict[Layer, tuple[Tensor, Part | None]]:
        """What each layer multiplies with, as ``[1, neurons, fan-in]``, and which neurons those are."""
        return {layer: (by_neuron(weight, axis), self.part(weight, axis)) for layer, (weight, axis) in applied.items()}

    def outgoing_norms(self, applied: Applied) -> dict[Layer, tuple[Tensor, Part | None]]:
        """L2 norm of all weights by which other layers read a neuron directly, and which neurons those are."""
        norms: dict[Layer, tuple[Tensor, Part | None]] = {}
        known = {layer.name: layer for layer in self.layers()}
        for reader, (weight, axis) in applied.items():
            layer = known.get(reader.before or "")
            inputs = weight.shape[1 - axis]
            if layer is None or layer.neurons % inputs or (is_split(weight) and layer.neurons != inputs):
                continue  # groups of a split convolution lie across the pieces
            here = layer.neurons * piece(weight).shape[1 - axis] // inputs
            found = by_input(piece(weight), 1 - axis, here).double().norm(dim=1)
            if layer in norms:
                found = torch.hypot(norms[layer][0], found)
            norms[layer] = found, self.part(weight, 1 - axis, whole=True)
        return norms

    def part(self, weight: Tensor, axis: int, whole: bool = False) -> Part | None:
        """Which neurons along ``axis`` this rank has, ``None`` for all.

        With ``whole``, of a number that each rank has from its piece of a neuron's weights, one counts as a row.
        """
        if not is_split(weight):
            return None
        part = part_of(weight, axis) or Part(slice(0, weight.shape[axis]), weight.shape[axis])
        return replace(part, counts=leads(weight)) if whole else part

    def bias(self, layer: Layer) -> Tensor | None:
        """The bias that belongs to the layer's weight: the owner's, if its weight is called so."""
        module = None if layer.owner is None else self.finder.modules.get(layer.owner)
        if module is None or not (is_owner(module) or (layer.weight or "").rpartition(".")[2] == "weight"):
            return None
        bias = module._parameters.get("bias")
        if bias is None or is_lazy(bias) or id(bias) in self.parameters.slices:
            return None
        return bias if bias.numel() == layer.neurons and bias.is_floating_point() else None

    def slopes(self, layer: Layer) -> Tensor | None:
        """The learned slopes of the layer's PReLU."""
        slopes = getattr(self.finder.modules.get(layer.activation or ""), "weight", None)
        return slopes if layer.function.name == "prelu" and isinstance(slopes, nn.Parameter) else None

    def learned_slope(self, layer: Layer) -> Tensor | None:
        """f'(z) of an activation with parameters of its own, ``[1, neurons, places]``."""
        module = self.finder.modules.get(layer.activation or "")
        parameter = None if module is None else next(module.parameters(recurse=False), None)
        if parameter is None or is_lazy(parameter) or is_split(parameter):
            return None
        z = torch.linspace(-REACH, REACH, PLACES, device=parameter.device).expand(1, layer.neurons, PLACES)
        with torch.no_grad():
            return layer.function.derivative(z)

    def learned_shape(self, layer: Layer) -> Tensor | None:
        """f(z) of an activation that learns its shape, ``[places]``; of several slopes the mean."""
        module, places = self.finder.modules.get(layer.activation or ""), layer.function.places
        parameter = None if module is None else next(module.parameters(recurse=False), None)
        if module is None or not places or parameter is None or is_lazy(parameter) or is_split(parameter):
            return None
        z = torch.linspace(-REACH, REACH, places, device=parameter.device, dtype=parameter.dtype).unsqueeze(1)
        with torch.no_grad():  # forward alone: no hook is to take this for data
            return module.forward(z.expand(-1, getattr(module, "num_parameters", 1))).double().mean(1)

    def mixture_entropy(self, layer: Layer) -> Tensor | None:
        """Entropy in bits of the shares of the layer's mixture of activations, a scalar."""
        weights = getattr(self.finder.modules.get(layer.activation or ""), "weights", None)
        if layer.function.name != "adaptive" or not isinstance(weights, nn.Parameter) or is_split(weights):
            return None
        logs = weights.detach().double().log_softmax(0)
        return -(logs.exp() * logs).sum() / math.log(2)

    def shares(self, layer: Layer) -> Tensor | None:
        """The learned shares of the functions that the layer's activation mixes."""
        shares = getattr(self.finder.modules.get(layer.activation or ""), "shares", None)
        return shares if isinstance(shares, Tensor) and shares.numel() == len(layer.function.parts) > 0 else None

    def unchanged(self, layer: Layer, versions: list[int]) -> bool:
        """True if the layer's parameter is what it was when ``versions`` were noted."""
        index = self._index[layer.weight or ""]
        return versions[index] == self.parameters.tensors[index]._version

    def applied(self) -> Applied:
        """What the layers multiply with, which some modules compute from other parameters."""
        found: dict[Layer, tuple[Tensor, int]] = {}
        for layer, (parameter, axis) in self.trained().items():
            module = self.finder.modules.get(layer.owner or "")
            if module is not None and is_split(parameter) and "weight" not in module._parameters:
                continue  # to compute it would take what other ranks have
            computed = None if module is None else computed_weight(module)
            found[layer] = (parameter.detach() if computed is None else computed, axis)
        return found


def by_neuron(weight: Tensor, axis: int) -> Tensor:
    """A weight, or its gradient, as ``[1, neurons, fan-in]``; of one that is split, the piece here."""
    held = piece(weight).movedim(axis, 0)
    return held.reshape(1, len(held), math.prod(held.shape[1:]))


def by_input(weight: Tensor, axis: int, inputs: int) -> Tensor:
    """A weight as ``[inputs, fan-out]``; those of a convolution in groups are read by the neurons of their group."""
    groups = inputs // weight.shape[axis] if axis and inputs else 1
    grouped = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
    moved = grouped.movedim(axis + 1, 1).flatten(0, 1)
    return moved.reshape(inputs, math.prod(moved.shape[1:]))
