"""On which samples of a batch the model was right, and what its neurons gave for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.folding import some_places
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


class Answers:
    """Keeps what each neuron gave for each sample of a batch until it is known on which samples the model was right.

    That is the mean over space and time; of what is large, over a part of the places.

    Args:
        take: Gets ``(layer, signal, rows)``.

    Attributes:
        reason: Why it was not known of the last batch; empty if it was.
    """

    def __init__(self, take: Callable[[Layer, Signal, Tensor], None]) -> None:
        self.take = take
        self.reason = "no labels were given: call record_answers(labels) in each step"
        self._samples: int | None = None
        self._kept: dict[Layer, Tensor] = {}
        self._whole: set[Layer] = set()
        self._turn = self._in_vain = 0

    def begin(self, samples: int | None = None) -> None:
        """A batch begins, of so many samples if that is known."""
        self._samples = samples
        self._turn += 1
        self._in_vain += 1
        self._kept.clear()
        self._whole.clear()

    @torch.no_grad()
    def keep(self, layer: Layer, a: Tensor) -> None:
        """An activation, of which samples are the first axis, or the second where only that has as many."""
        if a.dim() < 2 or not a.is_floating_point() or (self._in_vain > PATIENCE and self._in_vain % SELDOM):
            return
        neurons = axis_in(layer, a)
        turned = a.dim() > 2 and self._samples not in (None, a.shape[0]) and a.shape[1] == self._samples
        batch = 1 if turned else 0
        if batch == neurons:
            return
        others = [axis for axis in range(a.dim()) if axis not in (batch, neurons)]
        rows = a.detach().movedim((batch, neurons), (0, 1))
        if others:
            rows = some_places(rows, self._turn)
        rows = rows.to(torch.promote_types(a.dtype, torch.float32))
        self._kept[layer] = rows.flatten(2).mean(2) if others else rows.clone()
        (self._whole.discard if others else self._whole.add)(layer)

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
            right = self._right(labels, predictions, cut, kept)
        except ValueError as reason:
            self.reason = str(reason)
            return
        self.reason, self._in_vain = "", 0
        for signal, truth in ((Signal.RIGHT_ACTIVATION, 1), (Signal.WRONG_ACTIVATION, 0)):
            places = (right == truth).nonzero().flatten()
            for layer, rows in kept.items():
                if len(rows) == len(right) and not layer.superseded:
                    self.take(layer, signal, rows[places].unsqueeze(-1))

    def _right(self, labels: Any, predictions: Any, cut: float, kept: Mapping[Layer, Tensor]) -> Tensor:
        """1 where the model was right, 0 where it was wrong, -1 where that cannot be told, ``[samples]``."""
        if not isinstance(labels, Tensor):
            raise ValueError(NO_LABELS)
        if labels.dim() == 0 or labels.numel() != labels.shape[0]:
            raise ValueError(f"labels have the shape {tuple(labels.shape)}, not one a sample")
        labels = labels.detach().flatten()
        if not isinstance(predictions, Tensor):
            layer = self._output(kept, len(labels))
            predictions = kept[layer]
            cut = 0.5 if (layer.function.lower, layer.function.upper) == (0.0, 1.0) else 0.0
        predictions = predictions.detach()
        if len(predictions) != len(labels) or predictions.dim() > 2:
            raise ValueError(f"predictions have the shape {tuple(predictions.shape)} for {len(labels)} labels")
        if predictions.numel() > len(labels):
            if labels.is_floating_point():
                raise ValueError("labels are numbers, not classes")
            known = (labels >= 0) & (labels < predictions.shape[1])
            predictions = predictions.argmax(1)
        elif predictions.is_floating_point():
            known = ((labels == 0) | (labels == 1)).all().expand(len(labels))  # else it is a regression
            predictions = predictions.flatten() > cut
        else:
            known = labels >= 0
        return torch.where(known.to(labels.device), (predictions.flatten().to(labels.device) == labels).long(), -1)

    def _output(self, kept: Mapping[Layer, Tensor], samples: int) -> Layer:
        """The layer whose output is the model's answer."""
        outputs = [
            layer
            for layer, rows in kept.items()
            if layer.output and layer in self._whole and len(rows) == samples and not layer.superseded
        ]
        if len(outputs) != 1:
            raise ValueError(
                f"predictions were not found: {len(outputs) or 'no'} output layers give one row a sample; let the step "
                f"give them under {' or '.join(map(repr, PREDICTIONS[:2]))}"
            )
        return outputs[0]


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
