"""NaN and infinity: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_neurohealth.breakdown import Breakdown
from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.non_finite import NonFinite
from tests import networks
from tests.rules import by_hand

SICK = [
    (networks.infinite_input, 33, "activations of 0"),
    (networks.division_by_zero_inside, 25, "activations of fc"),
    (networks.logarithm_of_zero, 0, "loss"),
    (networks.root_of_zero, 0, "gradients"),
]


@pytest.mark.parametrize(("network", "step", "place"), SICK, ids=lambda value: getattr(value, "__name__", None))
def test_finds_where_it_began(network: Any, step: int, place: str) -> None:
    trained = network()
    for report in trained.reports[step // 20 :]:  # and goes on saying so
        (finding,) = [f for f in report.findings if f.condition == "non_finite"]
        assert (finding.layer, finding.severity) == (trained.layer, Severity.CRITICAL)
        assert f"at training step {step}, first in the {place}" in finding.message
    for report in trained.reports[: step // 20]:
        assert not [f for f in report.findings if f.condition == "non_finite"]


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_is_none(network: Any) -> None:
    assert network().alarms("non_finite") == []


def test_does_not_blame_the_loss_where_the_layers_were_not_measured() -> None:
    (finding,) = networks.infinite_input_unmeasured().found("non_finite")
    assert "at training step 33" in finding.message
    assert "the loss divides" not in finding.cause


# The rule alone


def measures(
    layers: dict[str, float] | None = None,
    loss: float = math.inf,
    gradient: float = math.inf,
    broken: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Steps at which it was first seen in each layer, the loss and the gradients; infinity for never."""
    steps = {"fc1": math.inf, "fc2": math.inf, "fc3": math.inf, **(layers or {})}
    return {
        "nonfinite_step": by_hand.numbers(**steps),
        "nonfinite_rate": {
            name: torch.tensor([0.0, 0.5 * math.isfinite(step)], dtype=torch.float64) for name, step in steps.items()
        },
        "nonfinite_loss_step": torch.tensor(loss),
        "nonfinite_gradient_step": torch.tensor(gradient),
        "parameter_nonfinite_rate": by_hand.numbers(**{f"{n}.weight": float(n in broken) for n in steps}),
    }


def judge(now: dict[str, Any], *before: dict[str, Any], breakdown: Breakdown | None = None) -> Verdict | None:
    layers = {name: by_hand.layer(2, name=name) for name in now["nonfinite_step"]}
    verdicts = list(
        NonFinite().judge(
            layers=layers, window=by_hand.window(breakdown=breakdown), past=[by_hand.past(m) for m in before], **now
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def test_nothing_to_say() -> None:
    assert judge(measures(), measures()) is None


def test_the_first_layer_of_the_first_step() -> None:
    verdict = judge(measures({"fc1": 12.0, "fc2": 11.0, "fc3": 11.0}, loss=11.0, gradient=11.0))
    assert (verdict.layer, verdict.neurons, verdict.severity) == ("fc2", (1,), Severity.CRITICAL)
    assert "at training step 11, first in the activations of fc2" in verdict.message
    assert verdict.value == pytest.approx(0.5)


def test_what_the_first_layer_writes_may_be_the_batch() -> None:
    assert "the batch itself" in judge(measures({"fc1": 11.0, "fc2": 11.0}, loss=11.0)).cause
    assert "batch" not in judge(measures({"fc2": 11.0}, loss=11.0)).cause


@pytest.mark.parametrize(
    ("now", "place", "word"),
    [
        (measures({"fc1": 8.0}, loss=7.0, gradient=7.0), "loss", "loss divides"),
        (measures({"fc1": 8.0}, loss=7.0, gradient=8.0), "loss", "not measured"),
        (measures({"fc1": 8.0}, gradient=7.0), "gradients", "backward"),
        (measures(broken=("fc2",)), "fc2.weight", "last update"),
    ],
)
def test_outside_of_layers(now: dict[str, Any], place: str, word: str) -> None:
    verdict = judge(now)
    assert verdict.layer is None
    assert place in verdict.message
    assert word in verdict.cause


def test_keeps_naming_where_it_began() -> None:
    began, all_of_it = measures({"fc2": 11.0}), measures({"fc1": 20.0, "fc2": 20.0, "fc3": 20.0}, loss=20.0)
    verdict = judge(all_of_it, measures(), began, all_of_it)
    assert verdict.layer == "fc2"
    assert "step 11" in verdict.message


def test_an_earlier_one_that_healed_is_over() -> None:
    assert judge(measures({"fc1": 50.0}), measures({"fc3": 5.0}), measures()).layer == "fc1"
    assert judge(measures(), measures({"fc3": 5.0})) is None


def test_what_had_exploded_before_is_part_of_the_cause() -> None:
    grown = Breakdown("fc1", "activations", 10, 2e6, 1.5)
    assert (
        "the activations of fc1 grew from 1.5 to 2e+06 by training step 10"
        in judge(measures({"fc2": 11.0}), breakdown=grown).cause
    )
    assert (
        "before that"
        not in judge(measures({"fc2": 11.0}), breakdown=Breakdown("fc2", "activations", 11, math.inf, 1.5)).cause
    )


@pytest.mark.parametrize(
    ("losses", "speaks"),
    [
        ((2.0, 1.0, 60.0, 3e4, math.nan), True),
        ((2.0, 3e4, 40.0, 80.0, math.inf), False),
        ((2.0, -1.0, math.nan), False),
    ],
    ids=["grew", "rose a little", "below 0"],
)
def test_a_loss_that_had_grown_is_part_of_the_cause(losses: tuple[float, ...], speaks: bool) -> None:
    cause = judge({**measures(loss=4.0), "train_loss": torch.tensor(losses)}).cause
    assert cause.startswith("the loss grew from 1 to 3e+04 in the 3 steps before it") == speaks
    assert "not measured" in cause


@pytest.mark.parametrize(("ratios", "speaks"), [((41.0, 67.0, math.nan), True), ((41.0, 0.1, 0.1), False)])
def test_steps_that_replaced_the_weights_are_part_of_the_cause(ratios: tuple[float, ...], speaks: bool) -> None:
    """Where the step that broke was not measured, they are all that there is to tell."""
    of = by_hand.numbers(**dict(zip(("fc1.weight", "fc2.weight", "fc3.weight"), ratios, strict=True)))
    cause = judge({**measures(loss=4.0), "update_ratio": of}).cause
    assert ("changed parameters by 54 times their size" in cause) == speaks


def test_one_broken_weight_or_several() -> None:
    assert judge(measures(broken=("fc1",))).message.endswith("first in fc1.weight")
    assert judge(measures(broken=("fc1", "fc2", "fc3"))).message.endswith("first in fc1.weight and 2 more")
