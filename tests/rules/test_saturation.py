"""Saturation: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.saturation import Saturation
from tests import networks
from tests.rules import by_hand
from tests.rules.trained import Trained

SICK = [networks.saturated_by_weights, networks.saturated_at_zero_by_bias, networks.saturated_functional]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_it(network: Any) -> None:
    trained: Trained = network()
    (finding,) = trained.found("saturation")
    assert finding.layer == trained.layer
    assert finding.severity == trained.severity
    assert trained.neurons <= set(finding.neurons)


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_is_none(network: Any) -> None:
    assert network().alarms("saturation") == []


def test_tells_bias_from_weights() -> None:
    (by_bias,) = networks.saturated_at_zero_by_bias().found("saturation")
    assert "stays on one side (bias)" in by_bias.cause
    (by_weights,) = networks.saturated_by_weights().found("saturation")
    assert "(weights)" in by_weights.cause or "pre-activations have a size of" in by_weights.cause


# The rule alone


def judge(share: float, tail: float | None = None, layer: Any = None, **facts: Any) -> Verdict | None:
    """A tanh layer on this share of rows at an end, in all neurons alike."""
    layer = layer or by_hand.layer(act=nn.Tanh(), **facts)
    rate = torch.full((100,), share, dtype=torch.float64)
    tails = {} if tail is None else {"tail_rate": torch.full((100,), tail, dtype=torch.float64)}
    return Saturation().judge(layer=layer, saturation_rate=rate, **tails)


@pytest.mark.parametrize(
    ("share", "severity"),
    [
        (0.5, None),
        (0.64, None),
        (0.66, Severity.WARNING),
        (0.79, Severity.WARNING),
        (0.81, Severity.SERIOUS),
        (0.94, Severity.SERIOUS),
        (0.96, Severity.CRITICAL),
    ],
)
def test_bands(share: float, severity: Severity | None) -> None:
    verdict = judge(share)
    assert (verdict and verdict.severity) == severity


def test_tails_count_as_much_as_ends() -> None:
    assert judge(0.1, tail=0.9).severity == Severity.SERIOUS


def test_the_flat_zero_of_relu6_is_no_end() -> None:
    relu6 = by_hand.layer(act=nn.ReLU6())
    assert judge(0.1, tail=0.9, layer=relu6) is None
    assert judge(0.9, layer=relu6).severity == Severity.SERIOUS


@pytest.mark.parametrize("fact", ["output", "gate"])
def test_outputs_and_gates_may_be_sure(fact: str) -> None:
    assert judge(1.0, **{fact: True}) is None


def test_names_the_neurons_that_are_stuck() -> None:
    rate = torch.full((100,), 0.79, dtype=torch.float64)
    rate[:50] = 1.0
    verdict = Saturation().judge(layer=by_hand.layer(act=nn.Tanh()), saturation_rate=rate)
    assert verdict.severity == Severity.SERIOUS
    assert verdict.value == pytest.approx(0.895)
    assert verdict.neurons == tuple(range(50))


@pytest.mark.parametrize(("mean", "std", "word"), [(9.0, 0.5, "bias"), (0.1, 9.0, "weights")])
def test_cause(mean: float, std: float, word: str) -> None:
    sizes = {"preactivation_mean": torch.full((100,), mean), "preactivation_std": torch.full((100,), std)}
    verdict = Saturation().judge(layer=by_hand.layer(act=nn.Tanh()), saturation_rate=torch.ones(100), **sizes)
    assert f"({word})" in verdict.cause
    assert "between -2.5 and 2.5" in verdict.cause
    assert "fc1" in verdict.remedy
