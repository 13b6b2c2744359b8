"""On which samples of a batch the model was right, and what its neurons gave for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from lightning_neurohealth.folding import Pick
from lightning_neurohealth.layers import Layer, axis_in
from lightning_neurohealth.signals import Signal

LABELS = ("labels", "label", "targets", "target", "y")
PREDICTIONS = ("predictions", "preds", "pred", "y_pred", "y_hat", "logits")
"""Names under which batches and steps hold them."""
NO_LABELS = (
    "no labels were found: neither is the batch (inputs, labels), or a mapping with "
    f"{' or '.join(LABELS[:2])}, nor did the step give any"
)
ALL_ALIKE = "the model was right on every sample of the window, or on none"


PATIENCE, SELDOM = 4, 16
"""Batches of which nobody could tell the right ones; only one in so many is kept then, until one can be told again."""


class Shortcut(Protocol):
    """A shorter way for what a layer gave, as long as it lies in memory as it did."""

    def take(self, x: Tensor, some: Tensor) -> bool:
        """Take ``some`` of the rows of ``x``; false, and nothing is done, if it lies otherwise."""


class Receiver(Protocol):
    """Who takes what neurons gave.

    Attributes:
        most: Rows of one tensor that count at most; ``"auto"`` for all of what is small, ``None`` for all.
        phase: Says which.
    """

    most: int | str | None
    phase: int

    def take(self, subject: Layer, signal: Signal, x: Tensor, *, some: Tensor) -> None:
        """Take ``some`` of the rows of ``x``, ``[rows, neurons, 1]``."""

    def some(self, layer: Layer, signal: Signal, x: Tensor) -> Shortcut | None:
        """One for further ``[rows, neurons]`` that lie as ``x`` does."""


@dataclass(frozen=True)
class Kept:
    """What a layer gave for some samples of a batch.

    Attributes:
        rows: ``[kept samples, neurons]``.
        samples: How many the batch has.
        which: Those that are kept.
    """

    rows: Tensor
    samples: int
    which: slice


class Way:
    """How it is kept of tensors that lie in memory as ``a`` does: the mean over the places of some samples.

    Args:
        batch, neurons: The axes along which those lie.
        most: Places of all samples that count at most, as a receiver says it.
    """

    def __init__(self, a: Tensor, batch: int, neurons: int, most: int | str | None) -> None:
        self.batch, self.neurons, self.samples = batch, neurons, a.shape[batch]
        self._wide = torch.promote_types(a.dtype, torch.float32)
        x = self._by_sample(a)
        whole = most is None or type(a) is not Tensor or x.data_ptr() != a.data_ptr()
        self._pick = Pick(x, most if isinstance(most, int) else None, whole, means=True)
        samples, *places, width = self._pick.shape
        self._whole, self._blurred = whole, places != [1, 1]
        self._span = samples * self._pick.step
        of_sample, *_, of_neuron = self._pick.strides
        alone = (samples, width), (of_sample, of_neuron)
        self._view: tuple[Sequence[int], Sequence[int]] = alone
        if self._blurred:
            self._view = self._pick.shape, self._pick.strides

    def kept(self, a: Tensor, phase: int) -> Kept:
        """What is kept of ``a``."""
        first = self._pick.first(phase)
        if self._whole:
            rows = self._by_sample(a).to(self._wide).mean(2)
        else:
            rows = a.as_strided(*self._view, a.storage_offset() + self._pick.offset(phase))
            rows = rows.to(self._wide).mean((1, 2)) if self._blurred else rows.to(self._wide, copy=True)
        return Kept(rows, self.samples, slice(first, first + self._span, self._pick.step))

    def _by_sample(self, a: Tensor) -> Tensor:
        """``[samples, neurons, places]``."""
        x = a.detach().movedim((self.batch, self.neurons), (0, 1))
        return x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)


class Answers:
    """Keeps what each neuron gave for each sample of a batch until it is known on which samples the model was right.

    That is the mean over space and time; of what is large, of some samples and over a part of the places.

    Attributes:
        reason: Why it was not known of the last batch; empty if it was.
    """

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.reason = "no labels were given: call record_answers(labels) in each step"
        self._samples: int | None = None
        self._kept: dict[Layer, Kept] = {}
        self._said: dict[Layer, tuple[Tensor, int]] = {}
        self._shortcuts: dict[tuple[Layer, Signal], Shortcut] = {}
        self._ways: dict[Layer, tuple[Any, Way | None]] = {}
        self._in_vain = 0

    def begin(self, samples: int | None = None) -> None:
        """A batch begins, of so many samples if that is known."""
        self._samples = samples
        self._in_vain += 1
        self._kept.clear()
        self._said.clear()

    @torch.no_grad()
    def keep(self, layer: Layer, a: Tensor) -> None:
        """An activation, of which samples are the first axis, or the second where only that has as many."""
        if a.dim() < 2 or not a.is_floating_point() or (self._in_vain > PATIENCE and self._in_vain % SELDOM):
            return
        key = (a.shape, a.stride(), self._samples, type(a))
        known = self._ways.get(layer)
        if known is None or known[0] != key:
            known = self._ways[layer] = key, self._way(layer, a)
        way = known[1]
        if way is None or is_functorch_wrapped_tensor(a):
            return
        self._kept[layer] = way.kept(a, self.receiver.phase)
        self._said.pop(layer, None)
        if a.dim() == 2 and layer.output:
            self._said[layer] = _answer(a)

    def _way(self, layer: Layer, a: Tensor) -> Way | None:
        neurons = axis_in(layer, a)
        turned = a.dim() > 2 and self._samples not in (None, a.shape[0]) and a.shape[1] == self._samples
        batch = 1 if turned else 0
        return None if batch == neurons else Way(a, batch, neurons, self.receiver.most)

    def settle(self, labels: Any, predictions: Any = None, cut: float = 0.5) -> None:
        """The step is over: hand on the samples that the model got right, and those that it got wrong.

        Args:
            labels: One class a sample; what is negative is no label.
            predictions: Classes, or scores ``[samples, classes]``, or one score a sample; ``None`` for what the
                output layer gave.
            cut: One score a sample says 1 above it.
        """
        kept, self._kept = self._kept, {}
        try:
            truths = self._right(labels, predictions, cut)
        except ValueError as reason:
            self.reason = str(reason)
            return
        self.reason, self._in_vain = "", 0
        for signal, truth in zip((Signal.RIGHT_ACTIVATION, Signal.WRONG_ACTIVATION), truths, strict=True):
            places: dict[tuple[int, int, int], Tensor] = {}
            for layer, of_layer in kept.items():
                if of_layer.samples == len(truth) and not layer.superseded:
                    which = of_layer.which
                    key = (which.start, which.stop, which.step)
                    if key not in places:
                        places[key] = truth[which].nonzero().flatten()
                    self._take(layer, signal, of_layer.rows, places[key])

    def _take(self, layer: Layer, signal: Signal, x: Tensor, some: Tensor) -> None:
        shortcut = self._shortcuts.get((layer, signal))
        if shortcut is not None and shortcut.take(x, some):
            return
        self.receiver.take(layer, signal, x.unsqueeze(-1), some=some)
        shortcut = self.receiver.some(layer, signal, x)
        if shortcut is not None:
            self._shortcuts[layer, signal] = shortcut

    def _right(self, labels: Any, predictions: Any, cut: float) -> tuple[Tensor, Tensor]:
        """Where the model was right, and where it was wrong, ``[samples]`` each; neither where that cannot be told."""
        if not isinstance(labels, Tensor):
            raise ValueError(NO_LABELS)
        if labels.dim() == 0 or labels.numel() != labels.shape[0]:
            raise ValueError(f"labels have the shape {tuple(labels.shape)}, not one a sample")
        labels = labels.detach().flatten()
        classes = 0
        if not isinstance(predictions, Tensor):
            layer = self._output(len(labels))
            predictions, classes = self._said[layer]
            cut = 0.5 if (layer.function.lower, layer.function.upper) == (0.0, 1.0) else 0.0
        predictions = predictions.detach()
        if len(predictions) != len(labels) or predictions.dim() > 2:
            raise ValueError(f"predictions have the shape {tuple(predictions.shape)} for {len(labels)} labels")
        if predictions.numel() > len(labels):
            predictions, classes = predictions.argmax(1), predictions.shape[1]
        if classes and labels.is_floating_point():
            raise ValueError("labels are numbers, not classes")
        if predictions.is_floating_point():
            known = ((labels == 0) | (labels == 1)).all().expand(len(labels))  # else it is a regression
            predictions = predictions > cut
        else:
            labels = labels.long()
            known = labels.clamp(0, classes - 1) == labels if classes else labels >= 0
        right = predictions.flatten().to(labels.device) == labels
        return right if classes else right & known, known > right

    def _output(self, samples: int) -> Layer:
        """The layer whose output is the model's answer."""
        outputs = [
            layer
            for layer, (said, _) in self._said.items()
            if layer.output and len(said) == samples and not layer.superseded
        ]
        if len(outputs) != 1:
            raise ValueError(
                f"predictions were not found: {len(outputs) or 'no'} output layers give one row a sample; let the step "
                f"give them under {' or '.join(map(repr, PREDICTIONS[:2]))}"
            )
        return outputs[0]


def _answer(x: Tensor) -> tuple[Tensor, int]:
    """What ``x``, ``[samples, neurons]``, says of each sample: the class, of how many; or one score, and 0."""
    return (x.argmax(1), x.shape[1]) if x.shape[1] > 1 else (x.clone(), 0)


def labels_in(batch: Any) -> Tensor | None:
    """The labels of a batch ``(inputs, …, labels)`` or of a mapping that names them."""
    if isinstance(batch, Mapping):
        return _named(batch, LABELS)
    last = batch[-1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    return last if isinstance(last, Tensor) and last.dim() > 0 else None


def answers_in(outputs: Any, batch: Any) -> tuple[Tensor | None, Tensor | None, float]:
    """Labels, predictions and the score above which one says 1, from what a step gave and what it got."""
    given = outputs if isinstance(outputs, Mapping) else {}
    labels = _named(given, LABELS)
    logits = not isinstance(_named(given, PREDICTIONS[:-1]), Tensor)
    return labels_in(batch) if labels is None else labels, _named(given, PREDICTIONS), 0.0 if logits else 0.5


def samples_in(batch: Any) -> int | None:
    """How many samples a batch has: the length of its labels, else of the first tensor in it."""
    labels = labels_in(batch)
    first = labels if labels is not None else next(_tensors(batch), None)
    return None if first is None or not first.dim() else len(first)


def _named(given: Mapping[str, Any], names: tuple[str, ...]) -> Tensor | None:
    return next((given[name] for name in names if isinstance(given.get(name), Tensor)), None)


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, tuple, list)):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(part)
