"""Steps that are too small to change the weights: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.update_ratio_low import UpdateRatioLow
from tests import networks
from tests.rules import by_hand, sick_runs, tempting_runs

SICK = [
    sick_runs.adam_that_stands_still,
    sick_runs.convolutions_that_stand_still,
    sick_runs.transformer_that_stands_still,
    sick_runs.rate_of_nought,
]
OTHERS = [sick_runs.labels_drawn_by_lot, sick_runs.dead_from_the_start, networks.vanishing_tanh, networks.exploding_mlp]
HEALTHY = [*networks.HEALTHY, *tempting_runs.HEALTHY]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    (finding,) = network().found("update_ratio_low")
    assert finding.severity == Severity.CRITICAL
    assert "raise the learning rate" in finding.remedy


def test_names_the_rate_and_by_how_much_to_raise_it() -> None:
    (finding,) = sick_runs.adam_that_stands_still().found("update_ratio_low")
    assert "the learning rate is 1e-09" in finding.cause
    assert "factor of about 1e+05" in finding.remedy


@pytest.mark.parametrize("network", [*HEALTHY, *OTHERS], ids=lambda network: network.__name__)
def test_silent_where_the_rate_is_not_at_fault(network: Any) -> None:
    assert [f for report in network().reports for f in report.findings if f.condition == "update_ratio_low"] == []


# The rule alone


def judge(
    *ratios: float,
    before: Any = (),
    rates: Any = (),
    norms: Any = None,
    outputs: float = 0.1,
    spread: float = 0.0,
    **facts: Any,
) -> Verdict | None:
    """Of layers with these update ratios now and in the windows before, at these learning rates."""
    names = [f"fc{i + 1}" for i in range(len(ratios))]
    layers = {name: by_hand.layer(name=name, fan_in=50) for name in names}
    output = by_hand.linear(10, name="head", weight=None, output=True)

    def of(values: Any) -> Any:
        return by_hand.numbers(**{f"{name}.weight": value for name, value in zip(names, values, strict=True)})

    start = 1 + spread * torch.randn(100, generator=torch.Generator().manual_seed(0))
    earlier = [
        by_hand.past({"update_ratio": of(values)}, learning_rate=rate, seen=20, step=20)
        for values, rate in zip(before, rates or [math.nan] * len(before), strict=True)
    ]
    verdicts = list(
        UpdateRatioLow().judge(
            window=by_hand.window(**facts),
            past=earlier,
            layers={**layers, "head": output},
            parameters=by_hand.parameters(*names),
            initial={"weight_norm": dict.fromkeys(names, start)},
            update_ratio=of(ratios),
            gradient_norm=None if norms is None else of(norms),
            activation_std={"head": torch.full((10,), outputs)},
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def level(verdict: Verdict | None) -> Severity | None:
    return verdict and verdict.severity


@pytest.mark.parametrize(
    ("ratio", "severity"),
    [
        (1.1e-6, None),
        (0.9e-6, Severity.SERIOUS),
        (6.1e-8, Severity.SERIOUS),
        (5.9e-8, Severity.CRITICAL),
        (0.0, Severity.CRITICAL),
        (math.nan, None),
    ],
)
def test_bands(ratio: float, severity: Severity | None) -> None:
    assert level(judge(ratio, ratio)) == severity


def test_the_median_over_matrices_counts() -> None:
    assert judge(1e-9, 1e-3, 1e-3) is None
    assert judge(1e-9, 1e-9, 1e-3).value == 1e-9


def test_silent_where_only_the_last_bias_gets_a_gradient() -> None:
    """Behind a saturated layer no learning rate helps."""
    gradient = {"fc1.weight": 1e-6, "head.bias": 0.1}
    facts = {"past": [], "initial": {}, "update_ratio": by_hand.numbers(**{"fc1.weight": 1e-8})}
    layers, parameters = {"fc1": by_hand.layer()}, by_hand.parameters("fc1")
    known = {**facts, "window": by_hand.window(), "layers": layers, "parameters": parameters}
    assert len(list(UpdateRatioLow().judge(**known, gradient_norm=by_hand.numbers(**gradient)))) == 0
    gradient["head.bias"] = 1e-6
    assert len(list(UpdateRatioLow().judge(**known, gradient_norm=by_hand.numbers(**gradient)))) == 1


def test_silent_once_something_is_learned() -> None:
    assert judge(1e-9, 1e-9, progress=by_hand.learning()) is None


def test_silent_at_the_end_of_a_schedule() -> None:
    assert judge(1e-7, 1e-7, before=[(1e-7, 1e-7)], rates=[1e-3], learning_rate=0.9e-4) is None
    assert judge(1e-7, 1e-7, before=[(1e-7, 1e-7)], rates=[1e-3], learning_rate=1.1e-4) is not None


def test_silent_where_it_has_moved_before() -> None:
    assert judge(1e-7, 1e-7, before=[(1e-3, 1e-3)]) is None
    assert judge(1e-7, 1e-7, before=[(5e-7, 5e-7)]) is not None


def test_silent_during_warm_up() -> None:
    assert judge(1e-7, 1e-7, before=[(1e-7, 1e-7)], rates=[1e-9], learning_rate=2e-9) is None
    assert judge(4e-7, 4e-7, before=[(1e-7, 1e-7), (2e-7, 2e-7)]) is None
    assert judge(1e-7, 1e-7, before=[(1e-7, 1e-7), (1e-7, 1e-7)]) is not None


def test_silent_where_the_gradient_is_at_fault() -> None:
    assert judge(0.0, 0.0, norms=(0.0, 0.0)) is None
    assert judge(1e-8, 1e-8, 1e-8, norms=(1e-6, 1e-4, 1.0)) is None
    assert level(judge(1e-8, 1e-8, 1e-8, norms=(0.1, 0.3, 1.0))) == Severity.CRITICAL


def test_silent_where_training_began_before() -> None:
    assert judge(1e-7, 1e-7, spread=0.5) is None
    assert judge(1e-7, 1e-7, spread=0.1) is not None  # 1 / √(2 · 50), as drawn
    assert judge(1e-7, 1e-7, step=1080) is None
    assert judge(1e-7, 1e-7, outputs=3.0) is None


def test_a_loss_that_says_nothing_makes_it_a_warning() -> None:
    assert level(judge(1e-9, 1e-9, progress=by_hand.losses(*[1.0] * 40, adversarial=True))) == Severity.WARNING
    assert level(judge(1e-9, 1e-9, progress=by_hand.losses())) == Severity.WARNING
