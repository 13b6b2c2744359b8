"""The weights and biases of the layers that were found, by neuron."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_neurohealth.finder import LayerFinder
from lightning_neurohealth.layers import Layer, is_owner
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.weights import computed_weight

REACH = 3.0
"""Standardised pre-activations are outside of [−3, 3] once in 370 times."""
PLACES = 24
"""An even number, so that no place lies on the kink at 0."""


class LayerWeights:
    """What a neuron of each layer has of its own.

    Attributes:
        strangers: Gives layers that only other ranks, or an earlier run, have seen: their weights are here too.
    """

    def __init__(self, parameters: Parameters, finder: LayerFinder) -> None:
        self.parameters, self.finder = parameters, finder
        self.strangers: Callable[[], list[Layer]] = list
        self._index = {name: i for i, name in enumerate(parameters.names)}

    def layers(self) -> list[Layer]:
        """All layers whose weights this rank has."""
        return [*self.finder.ordered(), *self.strangers()]

    def trained(self) -> dict[Layer, tuple[Tensor, int]]:
        """The parameter that each layer trains, and the axis along which its neurons lie."""
        found: dict[Layer, tuple[Tensor, int]] = {}
        for layer in self.layers():
            index = self._index.get(layer.weight or "")
            weight = None if index is None else self.parameters.tensors[index]
            if weight is None or is_lazy(weight):
                continue
            if layer.weight_axis is not None and weight.is_floating_point():
                found[layer] = (weight, layer.weight_axis)
        return found

    def by_neuron(self) -> dict[Layer, Tensor]:
        """What each layer multiplies with, as ``[1, neurons, fan-in]``."""
        return {layer: by_neuron(weight, axis) for layer, (weight, axis) in self._applied().items()}

    def outgoing_norms(self) -> dict[Layer, Tensor]:
        """L2 norm of all weights by which other layers read a neuron directly, ``[neurons]``."""
        norms: dict[Layer, Tensor] = {}
        known = {layer.name: layer for layer in self.layers()}
        for reader, (weight, axis) in self._applied().items():
            layer = known.get(reader.before or "")
            if layer is not None and layer.neurons % weight.shape[1 - axis] == 0:
                found = by_input(weight, 1 - axis, layer.neurons).double().norm(dim=1)
                norms[layer] = torch.hypot(norms[layer], found) if layer in norms else found
        return norms

    def bias(self, layer: Layer) -> Tensor | None:
        """The bias that belongs to the layer's weight: the owner's, if its weight is called so."""
        module = None if layer.owner is None else self.finder.modules.get(layer.owner)
        if module is None or not (is_owner(module) or (layer.weight or "").rpartition(".")[2] == "weight"):
            return None
        bias = module._parameters.get("bias")
        if bias is None or is_lazy(bias) or bias.numel() != layer.neurons or not bias.is_floating_point():
            return None
        return bias

    def slopes(self, layer: Layer) -> Tensor | None:
        """The learned slopes of the layer's PReLU."""
        slopes = getattr(self.finder.modules.get(layer.activation or ""), "weight", None)
        return slopes if layer.function.name == "prelu" and isinstance(slopes, nn.Parameter) else None

    def learned_slope(self, layer: Layer) -> Tensor | None:
        """f'(z) of an activation with parameters of its own, ``[1, neurons, places]``."""
        module = self.finder.modules.get(layer.activation or "")
        parameter = None if module is None else next(module.parameters(recurse=False), None)
        if parameter is None or is_lazy(parameter):
            return None
        z = torch.linspace(-REACH, REACH, PLACES, device=parameter.device).expand(1, layer.neurons, PLACES)
        with torch.no_grad():
            return layer.function.derivative(z)

    def mixture_entropy(self, layer: Layer) -> Tensor | None:
        """Entropy in bits of the shares of the layer's mixture of activations, a scalar."""
        weights = getattr(self.finder.modules.get(layer.activation or ""), "weights", None)
        if layer.function.name != "adaptive" or not isinstance(weights, nn.Parameter):
            return None
        logs = weights.detach().double().log_softmax(0)
        return -(logs.exp() * logs).sum() / math.log(2)

    def unchanged(self, layer: Layer, versions: list[int]) -> bool:
        """True if the layer's parameter is what it was when ``versions`` were noted."""
        index = self._index[layer.weight or ""]
        return versions[index] == self.parameters.tensors[index]._version

    def _applied(self) -> dict[Layer, tuple[Tensor, int]]:
        """What the layers multiply with, which some modules compute from other parameters."""
        found: dict[Layer, tuple[Tensor, int]] = {}
        for layer, (parameter, axis) in self.trained().items():
            module = self.finder.modules.get(layer.owner or "")
            computed = None if module is None else computed_weight(module)
            found[layer] = (parameter.detach() if computed is None else computed, axis)
        return found


def by_neuron(weight: Tensor, axis: int) -> Tensor:
    """A weight, or its gradient, as ``[1, neurons, fan-in]``."""
    return weight.movedim(axis, 0).reshape(1, weight.shape[axis], -1)


def by_input(weight: Tensor, axis: int, inputs: int) -> Tensor:
    """A weight as ``[inputs, fan-out]``; those of a convolution in groups are read by the neurons of their group."""
    grouped = weight.reshape(inputs // weight.shape[axis], -1, *weight.shape[1:]) if axis else weight.unsqueeze(0)
    return grouped.movedim(axis + 1, 1).reshape(inputs, -1)
