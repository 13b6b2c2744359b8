"""Dormant neurons: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.life import Life
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.dormant_neurons import DormantNeurons
from tests import networks
from tests.rules import by_hand
from tests.rules.trained import Trained

SICK = [
    networks.dormant_by_weights,
    networks.dormant_channels_behind_batch_norm,
    networks.dormant_in_the_tail_of_silu,
]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    trained: Trained = network()
    (finding,) = trained.found("dormant_neurons")
    assert finding.layer == trained.layer
    assert finding.severity == trained.severity
    assert len(set(finding.neurons) ^ trained.neurons) <= 2
    assert trained.layer in finding.remedy


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_are_none(network: Any) -> None:
    assert network().alarms("dormant_neurons") == []


# The rule alone


def judge(activity: Tensor, layer: Any = None, dead: int = 0, rule: Any = None, **facts: Any) -> Verdict | None:
    """From the mean activity of each neuron, and how many of the first ones are dead."""
    layer = layer or by_hand.layer(len(activity))
    life = Life.of(torch.arange(len(activity)) < dead)
    rule, window = rule or DormantNeurons(), by_hand.window(**facts)
    return rule.judge(layer=layer, life=life, window=window, dormancy=activity / activity.mean())


def quiet(number: int, size: float = 0.0, of: int = 100) -> Tensor:
    activity = torch.ones(of, dtype=torch.float64)
    activity[:number] = size
    return activity


@pytest.mark.parametrize(
    ("dormant", "severity"),
    [
        (14, None),
        (15, Severity.WARNING),
        (24, Severity.WARNING),
        (25, Severity.SERIOUS),
        (49, Severity.SERIOUS),
        (50, Severity.CRITICAL),
        (90, Severity.CRITICAL),
    ],
)
def test_bands(dormant: int, severity: Severity | None) -> None:
    verdict = judge(quiet(dormant))
    if severity is None:
        assert verdict is None
    else:
        assert verdict.severity == severity
        assert verdict.neurons == tuple(range(dormant))


@pytest.mark.parametrize(("size", "speaks"), [(0.017, True), (0.018, False)])
def test_tau_is_a_share_of_the_mean(size: float, speaks: bool) -> None:
    # the mean is 0.7 + 0.3 × size, of which 2.5 % are 0.0176
    assert (judge(quiet(30, size)) is not None) == speaks


def test_tau_is_a_setting() -> None:
    assert judge(quiet(30, 0.05)) is None
    assert judge(quiet(30, 0.05), rule=DormantNeurons(tau=0.1)).severity == Severity.SERIOUS


def test_one_outlier_does_not_make_the_others_dormant() -> None:
    activity = torch.ones(100, dtype=torch.float64)
    activity[7] = 1e5
    assert judge(activity) is None


def test_a_layer_without_any_activity_is_not_dormant() -> None:
    nothing, life = torch.zeros(100, dtype=torch.float64), Life.of(torch.zeros(100, dtype=torch.bool))
    assert DormantNeurons().judge(layer=by_hand.layer(), life=life, window=by_hand.window(), dormancy=nothing) is None


def test_dead_neurons_do_not_count() -> None:
    assert judge(quiet(30), dead=20) is None
    assert judge(quiet(30), dead=0).neurons == tuple(range(30))


@pytest.mark.parametrize(
    "layer",
    [by_hand.linear(), by_hand.layer(output=True), by_hand.layer(gate=True), by_hand.layer(3)],
    ids=["linear", "output", "gate", "three neurons"],
)
def test_not_judged(layer: Any) -> None:
    assert judge(quiet(2, of=3) if layer.neurons == 3 else quiet(60), layer) is None


def test_nan_is_left_to_others() -> None:
    activity = quiet(60)
    activity[0] = torch.nan
    assert judge(activity) is None


def test_a_few_of_a_network_that_learns_are_no_finding() -> None:
    assert judge(quiet(24)).severity == Severity.WARNING
    assert judge(quiet(24), progress=by_hand.learning()) is None
    assert judge(quiet(25), progress=by_hand.learning()).severity == Severity.SERIOUS
