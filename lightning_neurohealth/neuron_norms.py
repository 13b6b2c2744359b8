"""The length of the gradient of each neuron's weights and bias together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.native import Kernel, Lengths


class NeuronNorms:
    """Makes them of squares that C sums anyway, for layers whose neurons lie along the first axis of their weight.

    Args:
        trained: The weight of each layer, and the axis of its neurons.
        bias: Gives that of a layer, ``None`` if it has none.
        parameters: All of the model, in the order of their gradients.

    Attributes:
        counts: Rows of each parameter of which the squares are wanted, 0 for none.
        rows: Of each layer the norms of the last step, ``[1, neurons, 1]``, always in the same memory.
    """

    def __init__(
        self,
        trained: Mapping[Layer, tuple[Tensor, int]],
        bias: Callable[[Layer], Tensor | None],
        parameters: Sequence[Tensor],
    ) -> None:
        self.trained = trained
        places = {id(parameter): place for place, parameter in enumerate(parameters)}
        layers = {layer: places[id(weight)] for layer, (weight, axis) in trained.items() if axis == 0}
        self.counts = [0] * len(parameters)
        for layer, place in layers.items():
            self.counts[place] = layer.neurons
        begins = [sum(self.counts[:place]) for place in range(len(parameters))]
        biases = [places.get(id(bias(layer)), -1) for layer in layers]
        widths = [layer.neurons for layer in layers]
        self._squares = torch.empty(sum(self.counts), dtype=torch.float64)
        self._norms = torch.empty(sum(widths), dtype=torch.float64)
        self._lengths = Lengths(widths, [begins[place] for place in layers.values()], biases)
        self.rows = {layer: row.view(1, -1, 1) for layer, row in zip(layers, self._norms.split(widths), strict=True)}

    def elements(self, in_c: Kernel, gradients: Sequence[Tensor]) -> Tensor:
        """``Kernel.elements`` of the gradients of all parameters; their neurons' norms are known afterwards."""
        found = in_c.elements(gradients, self.counts, self._squares)
        in_c.lengths(self._lengths, self._squares, gradients, self._norms)
        return found
