"""Redundant neurons: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.redundant_neurons import RedundantNeurons
from tests import networks
from tests.rules import by_hand, sick_structure

SICK = [
    sick_structure.copies_in_an_mlp,
    sick_structure.copied_kernels,
    sick_structure.copies_in_a_transformer,
]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    trained = network()
    (finding,) = trained.found("redundant_neurons")
    assert finding.layer == trained.layer
    assert finding.severity >= Severity.SERIOUS
    assert set(finding.neurons) == trained.neurons


@pytest.mark.parametrize("network", [*sick_structure.TEMPTING, *networks.HEALTHY], ids=lambda network: network.__name__)
def test_silent_where_there_are_none(network: Any) -> None:
    assert network().alarms("redundant_neurons") == []


# The rule alone


def measures(copies: int, neurons: int = 100) -> dict[str, Tensor]:
    """The first neurons are copies of one, all others differ."""
    index = torch.arange(neurons)
    own = torch.where(index < copies, 1.0, 2.0 + 0.01 * index).double()
    return {
        "twin_distance": torch.where(index < copies, 0.0, 1.0).double(),
        "activation_mean": own,
        "activation_std": own.clone(),
    }


def judge(
    now: dict[str, Tensor], parameters: Parameters | None = None, rank: float | None = None, **facts: Any
) -> Verdict | None:
    layer = by_hand.layer(len(now["twin_distance"]), **{"fan_in": 64, **facts})
    return RedundantNeurons().judge(
        layer=layer,
        parameters=parameters or by_hand.parameters("fc1"),
        initial={} if rank is None else {"effective_rank": by_hand.numbers(fc1=rank)},
        **now,
    )


@pytest.mark.parametrize(
    ("copies", "severity"),
    [
        (4, None),
        (5, Severity.WARNING),
        (19, Severity.WARNING),
        (20, Severity.SERIOUS),
        (49, Severity.SERIOUS),
        (50, Severity.CRITICAL),
        (100, Severity.CRITICAL),
    ],
)
def test_bands(copies: int, severity: Severity | None) -> None:
    verdict = judge(measures(copies))
    assert (verdict and verdict.severity) == severity
    if verdict is not None:
        assert verdict.neurons == tuple(range(copies))
        assert verdict.certain == (severity >= Severity.SERIOUS)


@pytest.mark.parametrize(("apart", "found"), [(0.9e-3, True), (1.1e-3, False)])
@pytest.mark.parametrize("measure", ["twin_distance", "activation_mean", "activation_std"])
def test_weights_mean_and_spread_must_agree_to_a_thousandth(measure: str, apart: float, found: bool) -> None:
    now = measures(2, neurons=10)
    now[measure][0] += apart
    assert (judge(now) is not None) == found


def test_a_mean_near_zero_is_held_against_the_spread() -> None:
    now = measures(10, neurons=10)
    now["activation_mean"] = 1e-4 * torch.arange(10).double()
    assert judge(now).severity == Severity.CRITICAL


def test_dead_neurons_are_nobodys_copies() -> None:
    now = measures(50)
    now["activation_std"][:50] = now["activation_mean"][:50] = 0.0
    assert judge(now) is None


@pytest.mark.parametrize("facts", [{"output": True}, {"fan_in": 7}])
def test_outputs_and_few_inputs_are_left_out(facts: dict[str, Any]) -> None:
    assert judge(measures(50), **facts) is None


def test_small_layers_are_left_out() -> None:
    assert judge(measures(7, neurons=7)) is None
    assert judge(measures(8, neurons=8)) is not None


def test_groups_read_different_inputs() -> None:
    grouped = Parameters(nn.ModuleDict({"fc1": nn.Conv2d(100, 100, 3, groups=100)}))
    assert judge(measures(50), parameters=grouped) is None


@pytest.mark.parametrize(("cosine", "share", "speaks"), [(0.995, 20, True), (0.98, 20, False), (0.995, 19, False)])
def test_direction_alone_is_a_warning_at_most(cosine: float, share: int, speaks: bool) -> None:
    redundancy = torch.where(torch.arange(100) < share, cosine, 0.3).double()
    verdict = judge({**measures(0), "redundancy": redundancy})
    assert (verdict and verdict.severity) == (Severity.WARNING if speaks else None)


@pytest.mark.parametrize(
    ("rank", "start", "output", "speaks"),
    [
        (1.05, 9.0, True, True),
        (1.15, 9.0, True, False),
        (1.05, 1.9, True, False),  # as it was
        (0.0, 9.0, True, False),  # nothing varies
        (1.05, 9.0, False, False),  # of a classifier of two classes
    ],
)
def test_outputs_that_have_come_to_lie_on_a_line_are_a_warning(
    rank: float, start: float, output: bool, speaks: bool
) -> None:
    verdict = judge({**measures(0), "effective_rank": torch.tensor(rank)}, rank=start, output=output)
    assert (verdict and verdict.severity) == (Severity.WARNING if speaks else None)


def test_says_how_many_would_do() -> None:
    assert "61 neurons" in judge(measures(40)).remedy
