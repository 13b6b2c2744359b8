"""Delivers parameters, their gradients and their updates."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_neurohealth.finder import LayerFinder
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters, Run
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.taps import Receiver


class ParameterTaps:
    """Reads a model's parameters around an optimizer step, many in one call.

    Gradients are read once they are unscaled and before they are clipped. What costs a copy of every weight
    (``WEIGHT_UPDATE``) is taken only where a measure asks for it; ratios of updates come from sampled elements.

    Attributes:
        wanted: The signals that some measure needs.
    """

    def __init__(
        self, parameters: Parameters, run: Run, finder: LayerFinder, receiver: Receiver, wanted: set[Signal]
    ) -> None:
        self.parameters, self.run, self.finder, self.receiver, self.wanted = parameters, run, finder, receiver, wanted
        self._index = {name: i for i, name in enumerate(parameters.names)}
        self._norms: dict[Optimizer | None, Tensor] = {}
        self._before: Tensor | None = None
        self._weights_before: dict[Layer, Tensor] = {}
        if Signal.PARAMETER_CHANGE in wanted:
            parameters.changes()

    def begin_step(self, measuring: bool) -> None:
        """A training step begins: what the last one has changed is known by now."""
        self.after_update()
        if measuring:
            self._norms.clear()
            if Signal.UPDATE in self.wanted:
                self._before = self.parameters.samples()
            if Signal.WEIGHT_UPDATE in self.wanted:
                self._weights_before = {layer: w.clone() for layer, w in self._weights().items()}

    @property
    def read(self) -> bool:
        """True once gradients of this step were read."""
        return bool(self._norms)

    def before_update(self, optimizer: Optimizer | None = None) -> None:
        """Gradients are final, of all parameters or of one optimizer's; each is read once a step."""
        if optimizer in self._norms or None in self._norms:
            return
        self._norms[optimizer] = self.parameters.gradient_norms(optimizer)
        own = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        if Signal.WEIGHT_GRADIENT in self.wanted:
            for layer, (weight, axis) in self._weight_tensors().items():
                if weight.grad is not None and (own is None or id(weight) in own):
                    self.receiver.take(layer, Signal.WEIGHT_GRADIENT, by_neuron(weight.grad, axis))

    def end_step(self, stepped: bool, overflow: bool = False) -> None:
        """The step is over; ``stepped`` if the optimizer has run, ``overflow`` if it has skipped the step."""
        if overflow:
            self._norms.clear()
            self._before, self._weights_before = None, {}
            return
        norms = torch.stack(list(self._norms.values())).amax(0)
        self.receiver.take(self.parameters, Signal.PARAMETER_GRADIENT, norms.view(1, -1, 1))
        self.receiver.take(self.run, Signal.GLOBAL_GRADIENT, torch.linalg.vector_norm(norms).view(1, 1, 1))
        if Signal.GRADIENT_SAMPLE in self.wanted:
            self.receiver.take(
                self.parameters, Signal.GRADIENT_SAMPLE, self.parameters.gradient_samples().view(1, -1, 1)
            )
        self._norms.clear()
        if stepped:
            self.after_update()

    def after_update(self) -> None:
        """Deliver what the last measured step has changed."""
        before, self._before = self._before, None
        after = None if before is None else self.parameters.samples()
        if before is not None and after is not None and before.shape == after.shape:  # lazy ones have come to life
            ratios = self.parameters.update_ratios(before, after)
            self.receiver.take(self.parameters, Signal.UPDATE, ratios.view(1, -1, 1))
        weights, self._weights_before = self._weights_before, {}
        if weights:
            now = self._weights()
            for layer, weight in weights.items():
                if layer in now:
                    self.receiver.take(layer, Signal.WEIGHT_UPDATE, now[layer] - weight)

    def at_close(self) -> None:
        """Deliver the parameters as they are now."""
        for signal, norms in (
            (Signal.PARAMETER, self.parameters.norms),
            (Signal.PARAMETER_CHANGE, self.parameters.changes),
        ):
            if signal in self.wanted:
                self.receiver.take(self.parameters, signal, norms().view(1, -1, 1))
        self.weights_now()

    def weights_now(self) -> None:
        """Deliver weights, biases and learned activation parameters as they are now."""
        if Signal.WEIGHT in self.wanted:
            for layer, weight in self._weights().items():
                self.receiver.take(layer, Signal.WEIGHT, weight)
        if Signal.OUTGOING_WEIGHT in self.wanted:
            for layer, norms in self._outgoing_norms().items():
                self.receiver.take(layer, Signal.OUTGOING_WEIGHT, norms.view(1, -1, 1))
        if Signal.BIAS in self.wanted:
            for layer in self.finder.ordered():
                bias = getattr(self.finder.modules.get(layer.owner or ""), "bias", None)
                if isinstance(bias, Tensor) and bias.numel() == layer.neurons:
                    self.receiver.take(layer, Signal.BIAS, bias.detach().reshape(1, -1, 1))
        if Signal.SLOPE_PARAMETER in self.wanted:
            for layer in self.finder.ordered():
                slopes = getattr(self.finder.modules.get(layer.activation or ""), "weight", None)
                if isinstance(slopes, nn.Parameter):
                    self.receiver.take(layer, Signal.SLOPE_PARAMETER, slopes.detach().reshape(1, 1, -1))

    def _weight_tensors(self) -> dict[Layer, tuple[Tensor, int]]:
        found: dict[Layer, tuple[Tensor, int]] = {}
        for layer in self.finder.ordered():
            index = self._index.get(layer.weight or "")
            weight = None if index is None else self.parameters.tensors[index]
            if weight is not None and layer.weight_axis is not None and weight.is_floating_point():
                found[layer] = (weight, layer.weight_axis)
        return found

    def _outgoing_norms(self) -> dict[Layer, Tensor]:
        norms: dict[Layer, Tensor] = {}
        for reader, (weight, axis) in self._weight_tensors().items():
            layer = self.finder.layers.get(reader.before or "")
            if layer is not None and layer.neurons % weight.shape[1 - axis] == 0:
                found = by_input(weight.detach(), 1 - axis, layer.neurons).double().norm(dim=1)
                norms[layer] = torch.hypot(norms[layer], found) if layer in norms else found
        return norms

    def _weights(self) -> dict[Layer, Tensor]:
        return {layer: by_neuron(w.detach(), axis) for layer, (w, axis) in self._weight_tensors().items()}


def by_neuron(weight: Tensor, axis: int) -> Tensor:
    """A weight, or its gradient, as ``[1, neurons, fan-in]``."""
    return weight.movedim(axis, 0).reshape(1, weight.shape[axis], -1)


def by_input(weight: Tensor, axis: int, inputs: int) -> Tensor:
    """A weight as ``[inputs, fan-out]``; those of a convolution in groups are read by the neurons of their group."""
    grouped = weight.reshape(inputs // weight.shape[axis], -1, *weight.shape[1:]) if axis else weight.unsqueeze(0)
    return grouped.movedim(axis + 1, 1).reshape(inputs, -1)
