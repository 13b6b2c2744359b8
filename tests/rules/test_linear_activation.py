"""Linear activations: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.nn import AdaptiveActivation
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.linear_activation import LinearActivation
from tests import networks
from tests.rules import by_hand, sick_structure
from tests.training import Learner, fit


@pytest.mark.parametrize(
    "network",
    [sick_structure.slope_learned_to_one, sick_structure.slopes_of_channels_at_one],
    ids=lambda network: network.__name__,
)
def test_finds_it(network: Any) -> None:
    trained = network()
    finding = next(f for f in trained.found("linear_activation") if f.layer == trained.layer)
    assert finding.severity == Severity.WARNING
    assert abs(finding.value - 1) < 0.01


@pytest.mark.parametrize("network", [*sick_structure.TEMPTING, *networks.HEALTHY], ids=lambda network: network.__name__)
def test_silent_where_there_is_none(network: Any) -> None:
    assert network().found("linear_activation") == []


def test_tells_what_was_learned_from_what_was_given() -> None:
    (learned,) = sick_structure.slope_learned_to_one().found("linear_activation")
    assert "it began at 0.25" in learned.cause
    given = sick_structure.slopes_of_channels_at_one().found("linear_activation")[0]
    assert "has stayed there" in given.cause


# The rule alone


def judge(slope: float, spread: float = 0.0, start: float = 0.25) -> Verdict | None:
    return LinearActivation().judge(
        layer=by_hand.layer(act=nn.PReLU()),
        nonlinearity=torch.tensor(0.5),
        prelu_slope=torch.tensor(slope),
        prelu_slope_std=torch.tensor(spread),
        initial={"prelu_slope": {"fc1": torch.tensor(start)}},
    )


@pytest.mark.parametrize(
    ("slope", "spread", "speaks"),
    [
        (0.25, 0.0, False),
        (0.985, 0.0, False),
        (0.995, 0.0, True),
        (1.005, 0.005, True),
        (1.015, 0.0, False),
        (1.0, 0.02, False),
        (-1.0, 0.0, False),
    ],
)
def test_within_a_hundredth_of_one_in_all_channels(slope: float, spread: float, speaks: bool) -> None:
    verdict = judge(slope, spread)
    assert (verdict and verdict.severity) == (Severity.WARNING if speaks else None)


def test_names_where_it_began() -> None:
    assert "0.25" in judge(1.0).cause
    assert "stayed" in judge(1.0, start=1.0).cause


@pytest.mark.parametrize(("bend", "speaks"), [(0.5, False), (0.02, False), (0.005, True), (float("nan"), False)])
def test_learned_shapes_of_other_kinds(bend: float, speaks: bool) -> None:
    for start, cause in ((0.5, "was learned"), (0.0, "has stayed one")):
        verdict = LinearActivation().judge(
            layer=by_hand.layer(),
            nonlinearity=torch.tensor(bend),
            initial={"nonlinearity": {"fc1": torch.tensor(start)}},
        )
        assert (verdict and verdict.severity) == (Severity.WARNING if speaks else None)
        assert verdict is None or cause in verdict.cause


def test_a_mixture_that_has_become_the_identity() -> None:
    net = nn.Sequential(nn.Linear(4, 6), AdaptiveActivation(["relu", "tanh", "identity"]), nn.Linear(6, 1))
    with torch.no_grad():
        net[1].weights[2] = 12.0
    health = fit(Learner(net), window=4, max_epochs=6)
    (finding,) = [f for f in health.report.findings if f.condition == "linear_activation"]
    assert (finding.layer, finding.activation) == ("net.0", "net.1")
