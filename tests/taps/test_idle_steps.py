"""Steps that are not measured."""

from __future__ import annotations

import pytest
from torch import nn

from lightning_neurohealth.signals import Signal
from tests.taps.networks import Functional
from tests.training import at_each_signal, fit, make_data


def test_a_step_that_is_not_measured_takes_nothing_of_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, Signal]] = []
    at_each_signal(monkeypatch, lambda step, signal: taken.append((step, signal)))
    net = nn.Sequential(Functional(), nn.Linear(8, 1))
    fit(net, make_data(rows=48, shape=(8,)), every_n_steps=3, window=100)
    assert {step for step, signal in taken if signal is Signal.ACTIVATION} == {0, 3}
    assert {step for step, signal in taken if signal is Signal.ACTIVATION_GRADIENT} == {0, 3}
    assert {signal for step, signal in taken if step in (1, 2, 4)} <= {Signal.LOSS}
