"""Delivers parameters, their gradients and their updates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_neurohealth.finder import LayerFinder
from lightning_neurohealth.layer_weights import LayerWeights, by_neuron
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
        weights: Those of the layers.
        scale: What the gradients of parameters are still multiplied with when they are read.
    """

    def __init__(
        self, parameters: Parameters, run: Run, finder: LayerFinder, receiver: Receiver, wanted: set[Signal]
    ) -> None:
        self.parameters, self.run, self.receiver, self.wanted = parameters, run, receiver, wanted
        self.weights = LayerWeights(parameters, finder)
        self.scale: Tensor | float = 1.0
        self._norms: dict[Optimizer | None, Tensor] = {}
        self._before: Tensor | None = None
        self._just_seen: Tensor | None = None
        self._weights_before: dict[Layer, Tensor] = {}
        self._versions: list[int] = []
        if Signal.PARAMETER_CHANGE in wanted:
            parameters.changes()

    def begin_step(self, measuring: bool) -> None:
        """A training step begins: what the last one has changed is known by now."""
        self.after_update()
        just_seen, self._just_seen = self._just_seen, None
        if measuring:
            self._norms.clear()
            if Signal.UPDATE in self.wanted:
                # what the last step has left is what this one begins with
                self._before = self.parameters.samples() if just_seen is None else just_seen
            self._weights_before = {}
            self._versions = [p._version for p in self.parameters.tensors]
            self._keep_weights()

    @property
    def read(self) -> bool:
        """True once gradients of this step were read."""
        return bool(self._norms)

    def before_update(self, optimizer: Optimizer | None = None) -> None:
        """Gradients are final, of all parameters or of one optimizer's; each is read once a step."""
        self._keep_weights()  # of layers that were not known when the step began
        if optimizer in self._norms or None in self._norms:
            return
        self._norms[optimizer] = self.parameters.gradient_norms(optimizer) / self.scale
        if not {Signal.WEIGHT_GRADIENT, Signal.NEURON_GRADIENT} & self.wanted:
            return
        own = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        for layer, (weight, axis) in self.weights.trained().items():
            if weight.grad is None or not (own is None or id(weight) in own):
                continue
            gradient = by_neuron(_unscaled(weight.grad, self.scale), axis)
            if Signal.WEIGHT_GRADIENT in self.wanted:
                self.receiver.take(layer, Signal.WEIGHT_GRADIENT, gradient)
            if Signal.NEURON_GRADIENT in self.wanted:
                norms = gradient.double().norm(dim=2)
                bias = self.weights.bias(layer)
                if bias is not None and bias.grad is not None:
                    norms = torch.hypot(norms, _unscaled(bias.grad.double(), self.scale).reshape(1, -1))
                self.receiver.take(layer, Signal.NEURON_GRADIENT, norms.unsqueeze(-1))

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
            self._just_seen = after
            ratios = self.parameters.update_ratios(before, after)
            self.receiver.take(self.parameters, Signal.UPDATE, ratios.view(1, -1, 1))
        weights, self._weights_before = self._weights_before, {}
        if weights:
            now = self.weights.by_neuron()
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
            for layer, weight in self.weights.by_neuron().items():
                self.receiver.take(layer, Signal.WEIGHT, weight)
        if Signal.OUTGOING_WEIGHT in self.wanted:
            for layer, norms in self.weights.outgoing_norms().items():
                self.receiver.take(layer, Signal.OUTGOING_WEIGHT, norms.view(1, -1, 1))
        for layer in self.weights.layers():
            for signal, find, shape in (
                (Signal.BIAS, self.weights.bias, (1, -1, 1)),
                (Signal.SLOPE_PARAMETER, self.weights.slopes, (1, 1, -1)),
                (Signal.LEARNED_SLOPE, self.weights.learned_slope, (1, layer.neurons, -1)),
                (Signal.MIXTURE_ENTROPY, self.weights.mixture_entropy, (1, 1, 1)),
            ):
                own = find(layer) if signal in self.wanted else None
                if own is not None:
                    self.receiver.take(layer, signal, own.detach().reshape(shape))

    def _keep_weights(self) -> None:
        if Signal.WEIGHT_UPDATE in self.wanted:
            for layer, weight in self.weights.by_neuron().items():
                # a weight that has changed since the step began is not what it was before
                if layer not in self._weights_before and self.weights.unchanged(layer, self._versions):
                    self._weights_before[layer] = weight.clone()


def _unscaled(gradient: Tensor, scale: Tensor | float) -> Tensor:
    gradient = gradient.detach().to_dense() if gradient.is_sparse else gradient.detach()
    return gradient if isinstance(scale, float) and scale == 1.0 else gradient.double() / scale
