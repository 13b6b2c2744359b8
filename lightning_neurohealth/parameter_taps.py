"""Delivers parameters, their gradients and their updates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_neurohealth.delivery import Shortcut
from lightning_neurohealth.layer_weights import LayerWeights
from lightning_neurohealth.parameters import Parameters, Run, is_one
from lightning_neurohealth.samples import with_ratio
from lightning_neurohealth.sharding import Part, part_of, piece
from lightning_neurohealth.signals import OF_ELEMENTS, Signal
from lightning_neurohealth.tracing.finder import LayerFinder
from lightning_neurohealth.weight_taps import WeightReceiver, WeightTaps


class ParameterTaps:
    """Reads a model's parameters around an optimizer step, many in one call.

    Gradients are read once they are unscaled and before they are clipped; ratios of updates come from sampled elements.

    Attributes:
        wanted: The signals that some measure needs.
        weights: Those of the layers.
        by_layer: Reads their gradients and updates.
        scale: What the gradients of parameters are still multiplied with when they are read.
    """

    def __init__(
        self, parameters: Parameters, run: Run, finder: LayerFinder, receiver: WeightReceiver, wanted: set[Signal]
    ) -> None:
        self.parameters, self.run, self.receiver, self.wanted = parameters, run, receiver, wanted
        self.weights = LayerWeights(parameters, finder)
        self.by_layer = WeightTaps(parameters, self.weights, receiver, wanted)
        self.scale: Tensor | float = 1.0
        self.of_elements = bool(set(OF_ELEMENTS) & wanted)
        powers = [[1.0], [1.0], [2.0], [1.0], [1.0]]  # of a norm, a sum, squares and two ends
        self._powers = torch.tensor(powers, dtype=torch.float64, device=parameters.device)
        self._read: dict[Optimizer | None, Tensor] = {}
        self._before: Tensor | None = None
        self._just_seen: Tensor | None = None
        self._shortcuts: dict[Signal, Shortcut] = {}
        if Signal.PARAMETER_CHANGE in wanted:
            parameters.changes()

    def pass_over(self) -> None:
        """A training step begins that is not measured: what the last one has changed is known by now."""
        self._just_seen = None
        if self._before is not None or self.by_layer.owes:
            self.after_update()

    def begin_step(self, phase: int | None = None) -> None:
        """A measured step begins.

        ``phase`` says which elements of large weights are looked at, ``None`` for all.
        """
        if self._before is not None or self.by_layer.owes:
            self.after_update()
        just_seen, self._just_seen = self._just_seen, None
        self._read.clear()
        if Signal.UPDATE in self.wanted:
            # what the last step has left is what this one begins with
            self._before = self.parameters.samples.now() if just_seen is None else just_seen
        self.by_layer.begin_step(phase)

    @property
    def read(self) -> bool:
        """True once gradients of this step were read."""
        return bool(self._read)

    def before_update(self, optimizer: Optimizer | None = None) -> None:
        """Gradients are final, of all parameters or of one optimizer's; each is read once a step."""
        self.by_layer.keep()  # those that were not known when the step began
        if optimizer in self._read or None in self._read:
            return
        norms = self.by_layer.norms() if self.of_elements and is_one(self.scale) else None
        read, found = self.parameters.read_gradients(optimizer, self.of_elements, norms)
        if not is_one(self.scale):
            read = read / self.scale ** self._powers[: len(read)]
        self._read[optimizer] = read
        own = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        self.by_layer.read_gradients(own, self.scale, norms if found else None)

    def end_step(self, stepped: bool, overflow: bool, read: Callable[[], None]) -> None:
        """The step is over; of parameters that are split, all ranks bring their pieces together.

        Args:
            stepped: True if the optimizer has run.
            overflow: True if it has skipped the step.
            read: Reads the gradients, where nobody has.
        """
        before = None  # alike on all ranks, whatever fails on one
        if stepped or overflow:
            before, self._before = self._before, None
        updated = before is not None and not overflow

        def gradients() -> Tensor:
            if not self.read:
                read()
            return _greatest(list(self._read.values()))

        samples = None
        if self.parameters.pieces.any:
            found, update = self._joined(gradients, before if updated else None)
        else:
            found, update = gradients(), None
            if before is not None and updated:
                update, samples = self._sampled_step(before)
        self._read.clear()
        if overflow:
            self.forget_update()
            return
        if not self.parameters.gradients_are_hidden:
            self._take_gradients(found, samples)
        if update is not None:
            self._take_ratios(update)
        if stepped:
            self.after_update()

    def _joined(self, gradients: Callable[[], Tensor], before: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What was read of the gradients and of the update since ``before``, of whole parameters, in one collective."""

        def rows() -> Tensor:
            found = gradients()
            return found if before is None else torch.cat([found[:1], self._update_norms(before)[:2], found[1:]])

        joined = self.parameters.joined(rows, 1 if before is None else 3, self.of_elements)
        return (joined, None) if before is None else (torch.cat([joined[:1], joined[3:]]), with_ratio(joined[1:3]))

    def _sampled_step(self, before: Tensor) -> tuple[Tensor, Tensor | None]:
        """``_update_norms``, and samples of the gradients, where they come along with it."""
        step = self.parameters.samples.step(before)
        if step is None:
            return self._update_norms(before), None
        self._just_seen, gradients, update = step
        return update, gradients

    def _take_gradients(self, found: Tensor, samples: Tensor | None) -> None:
        norms = found[0]
        self._hand_on(Signal.PARAMETER_GRADIENT, norms)
        self.receiver.take(self.run, Signal.GLOBAL_GRADIENT, torch.linalg.vector_norm(norms).view(1, 1, 1))
        if self.of_elements:
            for signal, row in zip(OF_ELEMENTS, found[1:], strict=True):
                self._hand_on(signal, row)
        if Signal.GRADIENT_SAMPLE in self.wanted:
            sampled = self.parameters.samples
            self._hand_on(Signal.GRADIENT_SAMPLE, sampled.of_gradients() if samples is None else samples, sampled.here)

    def _hand_on(self, signal: Signal, row: Tensor, part: Part | None = None) -> None:
        """Deliver a number for each parameter, or for each of their samples."""
        row = row.view(1, -1, 1)
        shortcut = self._shortcuts.get(signal)
        if shortcut is not None and part is None and shortcut.take(row):
            return
        self.receiver.take(self.parameters, signal, row, part)
        shortcut = None if part is not None else self.receiver.shortcut(self.parameters, signal, row, row)
        if shortcut is not None:
            self._shortcuts[signal] = shortcut

    def after_update(self) -> None:
        """Deliver what the last measured step has changed."""
        before, self._before = self._before, None
        if before is not None:
            update = self.parameters.joined(lambda: self._update_norms(before)[:2], 2)
            self._take_ratios(with_ratio(update))
        self.by_layer.after_update()

    def forget_update(self) -> None:
        """What the last measured step has changed will not be known."""
        self._before = None
        self.by_layer.forget_update()

    def at_close(self, alone: bool = False) -> None:
        """Deliver the parameters as they are now; with ``alone``, of split ones only the norms of the pieces here."""
        parameters, wanted = self.parameters, Signal.PARAMETER_CHANGE in self.wanted

        def norms() -> Tensor:
            return torch.stack([parameters.norms(), *([parameters.changes()] if wanted else [])])

        alone = alone and parameters.pieces.any
        joined = norms() if alone else parameters.joined(norms, 1 + wanted)
        self.receiver.take(parameters, Signal.PARAMETER, joined[0].view(1, -1, 1))
        if alone:
            return
        if wanted:
            self.receiver.take(parameters, Signal.PARAMETER_CHANGE, joined[1].view(1, -1, 1))
        self.weights_now()

    def weights_now(self) -> None:
        """Deliver weights, biases and learned activation parameters as they are now."""
        applied = self.weights.applied() if {Signal.WEIGHT, Signal.OUTGOING_WEIGHT} & self.wanted else {}
        if Signal.WEIGHT in self.wanted:
            for layer, (weight, part) in self.weights.by_neuron(applied).items():
                self.receiver.take(layer, Signal.WEIGHT, weight, part)
        if Signal.OUTGOING_WEIGHT in self.wanted:
            for layer, (norms, part) in self.weights.outgoing_norms(applied).items():
                self.receiver.take(layer, Signal.OUTGOING_WEIGHT, norms.view(1, -1, 1), part)
        for layer in self.weights.layers():
            for signal, find, shape in (
                (Signal.BIAS, self.weights.bias, (1, -1, 1)),
                (Signal.SLOPE_PARAMETER, self.weights.slopes, (1, 1, -1)),
                (Signal.LEARNED_SLOPE, self.weights.learned_slope, (1, layer.neurons, -1)),
                (Signal.LEARNED_SHAPE, self.weights.learned_shape, (1, -1, 1)),
                (Signal.MIXTURE, self.weights.shares, (1, -1, 1)),
                (Signal.MIXTURE_ENTROPY, self.weights.mixture_entropy, (1, 1, 1)),
            ):
                own = find(layer) if signal in self.wanted else None
                if own is not None:
                    part = part_of(own, 0) if signal is Signal.BIAS else None
                    self.receiver.take(layer, signal, piece(own.detach()).reshape(shape), part)

    def _update_norms(self, before: Tensor) -> Tensor:
        """‖ΔW‖, ‖W‖ and their ratio, of the samples here, ``[3, parameters]``; NaN where lazy ones came to life."""
        after = self.parameters.samples.now()
        if before.shape != after.shape:
            return torch.full((3, self.parameters.neurons), torch.nan, dtype=torch.float64, device=after.device)
        self._just_seen = after
        return self.parameters.samples.changes(before, after)

    def _take_ratios(self, update: Tensor) -> None:
        self._hand_on(Signal.UPDATE, update[2])


def _greatest(reads: list[Tensor]) -> Tensor:
    """Of each parameter what was read with the greatest norm, where several optimizers have stepped."""
    if len(reads) == 1:
        return reads[0]
    stacked = torch.stack(reads)
    return stacked.take_along_dim(stacked[:, :1].argmax(0, keepdim=True), 0)[0]
