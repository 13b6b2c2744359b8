"""Feeds weights, and what comes with them, to a measure as a model on one rank or on several would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.layer_weights import by_neuron
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.signals import Signal
from tests.measures.harness import layer


def _weight(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.7 + 0.1
    return (weight * (weight.abs() > 0.2)).to(dtype)


# about N(0.1, 0.5), the small ones exactly 0; neurons first
WEIGHTS = {
    "linear": _weight(5, 7),
    "one neuron": _weight(1, 7),
    "one input": _weight(5, 1),
    "one number": _weight(1, 1) + 1,
    "convolution": _weight(5, 3, 2, 2),
    "3d convolution": _weight(4, 2, 3, 2, 2),
    "float16": _weight(5, 7, dtype=torch.float16),
    "bfloat16": _weight(5, 7, dtype=torch.bfloat16),
    "float64": _weight(5, 7, dtype=torch.float64),
}

CASES = [(name, 1) for name in WEIGHTS] + [("linear", 3), ("convolution", 2)]

every_weight = pytest.mark.parametrize(
    ("weight", "ranks"),
    [(WEIGHTS[name], ranks) for name, ranks in CASES],
    ids=[f"{name.replace(' ', '_')}-{ranks}" for name, ranks in CASES],
)


def layer_of(weight: Tensor, activation: nn.Module | None = None, nonnegative: bool = False) -> Layer:
    """The layer that a weight belongs to."""
    found = layer(len(weight), activation)
    found.fan_in, found.fan_out = weight[0].numel(), weight[:, :1].numel() if weight.dim() > 2 else len(weight)
    found.nonnegative = nonnegative
    return found


def rows(weight: Tensor) -> np.ndarray:
    """A weight, or its gradient, as ``[neurons, fan-in]`` in float64."""
    return np.asarray(weight.double().flatten(1))


def measured(name: str, subject: Layer, ranks: int = 1, **signals: Tensor | Sequence[Tensor]) -> np.ndarray:
    """The measure called ``name`` after one tensor of each signal a step, the same on every rank.

    Weights, their gradients and updates have their neurons first; a bias and slopes have one axis; the rest arrives as
    ``[outer, neurons, inner]``.
    """
    measure = all_measures()[name]
    books = []
    for _ in range(ranks):
        ledger = Ledger([measure])
        for signal, given in signals.items():
            for step, x in enumerate([given] if isinstance(given, Tensor) else given):
                ledger.step = step
                ledger.take(subject, Signal(signal), _folded(signal, x))
                ledger.fade()
                ledger.commit()
        books.append(ledger.books[subject])
    arguments: dict[str, Any] = {}
    for signal in measure.needs:
        (statistic,), *others = (book[signal] for book in books)
        for (other,) in others:
            statistic.merge({state: getattr(other, state) for state in other.kinds})
        assert statistic.rows > 0
        arguments[signal.value] = statistic
    if measure.wants_subject:
        arguments["subject"] = subject
    return np.asarray(measure.compute(**arguments))


def _folded(signal: str, x: Tensor) -> Tensor:
    if signal == "bias":
        return x.reshape(1, -1, 1)
    if signal == "slope_parameter":
        return x.reshape(1, 1, -1)
    return by_neuron(x, 0) if signal.startswith("weight") else x
