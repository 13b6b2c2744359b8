"""Dead weights: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.dead_weights import DeadWeights
from tests import networks
from tests.rules import by_hand, sick_structure

SICK = [
    sick_structure.driven_to_zero,
    sick_structure.kernels_driven_to_zero,
    sick_structure.zeros_from_the_start,
]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    trained = network()
    (finding,) = trained.found("dead_weights")
    assert finding.layer == trained.layer
    assert finding.severity == Severity.SERIOUS


@pytest.mark.parametrize("network", [*sick_structure.TEMPTING, *networks.HEALTHY], ids=lambda network: network.__name__)
def test_silent_where_there_are_none(network: Any) -> None:
    assert network().alarms("dead_weights") == []


def test_tells_a_penalty_from_a_start() -> None:
    (driven,) = sick_structure.driven_to_zero().found("dead_weights")
    assert "L1" in driven.remedy
    (planted,) = sick_structure.zeros_from_the_start().found("dead_weights")
    assert "so it was at the start" in planted.cause


# The rule alone


def rates(rate: float) -> Tensor:
    """Of 100 neurons."""
    return torch.full((100,), rate, dtype=torch.float64)


def judge(
    now: float, start: float = 0.0, past: Any = (), gradient: float = 1.0, module: nn.Module | None = None, **facts: Any
) -> Verdict | None:
    layer = by_hand.layer(fan_in=facts.pop("fan_in", 64), output=facts.pop("output", False))
    if "weight" in facts:
        layer.weight = facts.pop("weight")
    module = nn.Linear(64, 100) if module is None else module
    return DeadWeights().judge(
        layer=layer,
        parameters=Parameters(nn.ModuleDict({"fc1": module})),
        window=by_hand.window(**{"seen": 200, **facts}),
        past=[by_hand.past({"dead_weight_rate": rates(rate)}) for rate in past],
        initial={"dead_weight_rate": {"fc1": rates(start)}},
        dead_weight_rate=rates(now),
        gradient_norm=torch.tensor(gradient),
    )


@pytest.mark.parametrize(("rate", "speaks"), [(0.0, False), (0.9, False), (0.91, True), (1.0, True)])
def test_above_nine_tenths(rate: float, speaks: bool) -> None:
    verdict = judge(rate)
    assert (verdict and verdict.severity) == (Severity.SERIOUS if speaks else None)


def test_a_loss_that_falls_excuses_all_but_a_layer_that_is_gone() -> None:
    assert not judge(0.95).certain
    assert judge(1.0).certain
    assert not judge(1.0, output=True).certain


def test_small_matrices_are_left_out() -> None:
    assert judge(0.95, fan_in=2) is None
    assert judge(0.95, fan_in=3) is not None


def test_frozen_weights_are_meant() -> None:
    assert judge(1.0, module=nn.Linear(64, 100).requires_grad_(False)) is None


def test_a_mask_beside_the_weight_is_meant() -> None:
    masked = nn.Linear(64, 100)
    masked.register_buffer("keep", torch.ones(100, 64))
    assert judge(0.95, module=masked) is None
    masked = nn.Linear(64, 100)
    masked.register_buffer("scale", torch.ones(100))
    assert judge(0.95, module=masked) is not None


def test_a_weight_tied_to_an_embedding_is_left_out() -> None:
    tied = nn.Linear(64, 100)
    embedding = nn.Embedding(100, 64)
    embedding.weight = tied.weight
    tied.table = embedding
    assert judge(0.95, module=tied) is None


def test_unknown_weights_are_left_out() -> None:
    assert judge(1.0, weight=None) is None


def test_what_begins_at_zero_may_fill_slowly() -> None:
    assert judge(1.0, start=1.0) is None
    assert judge(0.95, start=1.0, past=[1.0, 0.99, 0.97]) is None


def test_what_began_at_zero_and_was_in_use_counts() -> None:
    assert judge(0.95, start=1.0, past=[0.4]).severity == Severity.SERIOUS


@pytest.mark.parametrize(
    ("facts", "speaks"),
    [({}, True), ({"gradient": 0.1}, False), ({"seen": 99}, False), ({"trained": 0.5}, False)],
    ids=["stuck", "moves", "early", "within an epoch"],
)
def test_what_began_at_zero_and_gets_no_gradient_counts_in_the_end(facts: dict[str, Any], speaks: bool) -> None:
    assert (judge(1.0, start=1.0, **{"gradient": 0.0, **facts}) is not None) == speaks
