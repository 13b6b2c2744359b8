"""Feeds uneven batches to the statistics that a measure needs, and gives the same numbers to its oracle as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.activations import IDENTITY, from_module
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.folding import fold
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.parameters import Parameters, Run
from lightning_neurohealth.signals import Signal

CPU = torch.device("cpu")


def layer(
    neurons: int, activation: nn.Module | None = None, parts: tuple[str, ...] = (), places: int = 0, **facts: Any
) -> Layer:
    """A layer that some activation follows, none by default; with ``parts``, one that is a mixture of these; with
    ``places``, one whose shape is learned."""
    function = IDENTITY if activation is None else from_module(activation)
    assert function is not None
    function = replace(function, parts=parts, places=places) if parts or places else function
    return Layer("fc", neurons, -1, CPU, function, None if activation is None else "act", **facts)


def parameters() -> Parameters:
    """Three parameters of different sizes: 12, 4 and 1 elements."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.ones(4, 3))
    model.bias = nn.Parameter(torch.ones(4))
    model.gain = nn.Parameter(torch.ones(()))
    return Parameters(model)


def run() -> Run:
    return Run(CPU)


@dataclass(frozen=True)
class Batches:
    """What one signal delivers, a batch a step; ``axis`` is the neurons'."""

    tensors: tuple[Tensor, ...]
    axis: int = -1

    @property
    def neurons(self) -> int:
        return self.tensors[0].shape[self.axis]

    @property
    def by_batch(self) -> list[np.ndarray]:
        """Of each batch ``[rows, neurons]`` in float64."""
        arrays = [np.asarray(t.detach().double()) for t in self.tensors]
        return [np.stack([array.take(i, self.axis).ravel() for i in range(self.neurons)], axis=1) for array in arrays]

    @property
    def rows(self) -> np.ndarray:
        """Of all batches together ``[rows, neurons]`` in float64."""
        return np.concatenate(self.by_batch)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batches:
        return Batches(tuple(change(t) for t in self.tensors), self.axis)


def series(values: Iterable[float | list[float]]) -> Batches:
    """One row a step: the numbers of the run, or of each parameter."""
    return Batches(tuple(torch.tensor(value, dtype=torch.float64).reshape(1, -1) for value in values))


def weights(*steps: Tensor) -> Batches:
    """What a weight, its gradient or its update ``[neurons, ...]`` delivers: all connections of a neuron in a row."""
    return Batches(tuple(weight.reshape(1, len(weight), -1) for weight in steps), 1)


def compute(name: str, given: Batches | dict[str, Batches], subject: Any = None) -> np.ndarray:
    """The measure called ``name`` after one window of ``given``, for all of its signals or for each its own."""
    measure = all_measures()[name]
    signals = {signal: given if isinstance(given, Batches) else given[signal.value] for signal in measure.needs}
    subject = layer(next(iter(signals.values())).neurons) if subject is None else subject
    ledger = Ledger([measure])
    ledger.open(subject, measure.subject)
    for step in range(max(len(batches.tensors) for batches in signals.values())):
        ledger.step = step
        for signal, batches in signals.items():
            for x in batches.tensors[step : step + 1]:
                ledger.take(subject, signal, fold(x, batches.axis))
        ledger.fade()
        ledger.commit()
        ledger.advance()
        ledger.advance(Signal.VALIDATION_LOSS)
    ledger.settle()
    book = ledger.books[subject]
    arguments: dict[str, Any] = {signal.value: statistic for signal in measure.needs for statistic in book[signal]}
    arguments.update({f"next_{signal.value}": arguments[signal.value] for signal in measure.of_next})
    if "subject" in measure.compute.__annotations__:
        arguments["subject"] = subject
    return np.asarray(measure.compute(**arguments))


def assert_close(actual: Any, expected: Any, rtol: float = 1e-10, atol: float = 1e-14) -> None:
    """Equal numbers in equal shapes."""
    actual, expected = np.asarray(actual), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


# shapes of batches, neuron axis, type
LAYOUTS: dict[str, tuple[list[tuple[int, ...]], int, torch.dtype]] = {
    "rows x neurons": ([(7, 5), (1, 5), (13, 5)], -1, torch.float32),
    "N T D": ([(7, 4, 5), (1, 2, 5), (13, 4, 5)], -1, torch.float32),
    "N C T": ([(7, 5, 4), (1, 5, 4), (13, 5, 2)], 1, torch.float32),
    "N C H W": ([(7, 3, 2, 5), (1, 3, 2, 5), (13, 3, 2, 5)], 1, torch.float32),
    "N C D H W": ([(7, 3, 2, 2, 2), (1, 3, 2, 2, 2), (13, 3, 1, 2, 4)], 1, torch.float32),
    "channels last": ([(7, 3, 2, 5), (1, 3, 2, 5), (13, 3, 2, 5)], 1, torch.float32),
    "C H W": ([(3, 2, 5), (3, 2, 5)], 0, torch.float32),
    "one neuron": ([(7, 1), (1, 1), (13, 1)], -1, torch.float32),
    "one row": ([(1, 5)], -1, torch.float32),
    "float16": ([(7, 5), (1, 5), (13, 5)], -1, torch.float16),
    "bfloat16": ([(7, 5), (1, 5), (13, 5)], -1, torch.bfloat16),
    "float64": ([(7, 5), (1, 5), (13, 5)], -1, torch.float64),
}


@pytest.fixture(params=LAYOUTS, ids=lambda name: name.replace(" ", "_"))
def batches(request: pytest.FixtureRequest) -> Batches:
    """Uneven batches in every layout: about N(0.5, 4), a fifth of them exactly 0."""
    shapes, axis, dtype = LAYOUTS[request.param]
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for shape in shapes:
        x = torch.randn(shape, generator=generator) * 2 + 0.5
        x = (x * (torch.rand(shape, generator=generator) > 0.2)).to(dtype)
        tensors.append(x.to(memory_format=torch.channels_last) if request.param == "channels last" else x)
    return Batches(tuple(tensors), axis)
