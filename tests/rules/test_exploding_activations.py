"""Exploding activations: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.exploding_activations import ExplodingActivations
from tests import networks
from tests.rules import by_hand


@pytest.mark.parametrize("network", [networks.exploding_mlp, networks.exploding_convolutions])
def test_finds_them_along_the_depth(network: Any) -> None:
    trained = network()
    (finding,) = trained.found("exploding_activations")
    assert finding.severity == trained.severity
    scales = [float(layer["activation_scale"]) for layer in trained.report.values() if not layer.output]
    assert finding.value == pytest.approx(max(scales) / scales[0])
    assert scales[list(trained.report).index(finding.layer)] > 10 * scales[0]


def test_finds_them_over_windows() -> None:
    trained = networks.exploding_while_training()
    (finding,) = trained.found("exploding_activations")
    assert (finding.layer, finding.severity) == (trained.layer, trained.severity)
    assert "still grow" in finding.message


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_they_do_not(network: Any) -> None:
    assert network().alarms("exploding_activations") == []


# The rule alone


def judge(*scales: float, before: Any = (), first: Any = None) -> Verdict | None:
    """Layers with these activation scales, the last of them the output, after windows and a first step with others."""
    layers = by_hand.chain(len(scales))

    def measures(values: Any) -> Any:
        return by_hand.numbers(**dict(zip(layers, values, strict=True)))

    past = [by_hand.past({"activation_scale": measures(values)}) for values in before]
    initial = {"activation_scale": measures(first or [1.0] * len(scales))}
    rule = ExplodingActivations()
    verdicts = list(rule.judge(layers=layers, initial=initial, activation_scale=measures(scales), past=past))
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


@pytest.mark.parametrize(
    ("largest", "severity"),
    [(990, None), (1010, Severity.SERIOUS), (0.9e6, Severity.SERIOUS), (2e6, Severity.CRITICAL)],
)
def test_growth_along_the_depth(largest: float, severity: Severity | None) -> None:
    verdict = judge(1, 1, largest, 1, 1)
    assert (verdict and verdict.severity) == severity
    assert verdict is None or verdict.layer == "fc3"


def test_threefold_four_times_in_a_row() -> None:
    assert judge(1, 3, 9, 27, 1) is None
    assert judge(1, 3, 9, 27, 81, 1).layer == "fc5"
    assert judge(1, 3, 9, 9, 27, 81, 1) is None


def test_only_ratios_count() -> None:
    assert judge(1e6, 1e6, 1e6, 1e6) is None
    assert judge(1e-9, 1e-5, 1e-5).severity == Severity.SERIOUS


def test_the_output_may_be_large() -> None:
    assert judge(1, 1, 1, 1e9) is None


@pytest.mark.parametrize(("active", "speaks"), [(5, False), (0, True)])
def test_a_few_neurons_carry_a_layer_whose_others_are_stuck(active: int, speaks: bool) -> None:
    layers = by_hand.chain(3)
    std = {name: torch.full((100,), 0.1) for name in layers}
    std["fc1"] = torch.cat([torch.full((active,), 0.3), torch.full((100 - active,), 1e-9)])
    scale = by_hand.numbers(fc1=1e-9, fc2=0.1, fc3=0.1)
    rule = ExplodingActivations()
    found = list(rule.judge(layers=layers, initial={}, activation_scale=scale, past=[], activation_std=std))
    assert bool(found) == speaks


def test_growth_over_windows() -> None:
    assert judge(2000, 1, before=[(1, 1), (100, 1)]).layer == "fc1"
    assert judge(900, 1, before=[(1, 1), (100, 1)]) is None  # not a thousandfold
    assert judge(2000, 1, before=[(1, 1), (3000, 1)]) is None  # it has come back
    assert judge(2000, 1, before=[(1, 1)]) is None  # a leap is not growth


def test_a_layer_that_starts_near_zero_may_grow() -> None:
    assert judge(1, 1.0, 1, before=[(1, 1e-6, 1), (1, 1e-3, 1)]) is None


def test_only_the_largest_growth_is_beyond_any_excuse() -> None:
    assert not judge(1, 1e5, 1).certain
    assert judge(1, 1e7, 1).certain


def test_growth_at_the_first_step_is_not_excused_by_a_loss_that_falls() -> None:
    assert judge(1, 1e5, 1, first=(1, 1e4, 1)).certain
    assert not judge(1, 1e5, 1, first=(1, 900, 1)).certain


def test_a_tower_beside_is_not_held_against_it() -> None:
    layers = {name: by_hand.layer(name=name, order=i, output=i == 2) for i, name in enumerate(("a", "b", "c"))}
    scale = by_hand.numbers(a=1.0, b=1e7, c=1.0)
    assert not list(ExplodingActivations().judge(layers=layers, initial={}, activation_scale=scale, past=[]))


def test_where_all_has_overflowed_the_first_step_tells_why() -> None:
    verdict = judge(math.nan, math.nan, math.nan, math.nan, first=[1.0, 50.0, 2000.0, 1.0])
    assert (verdict.layer, verdict.severity) == ("fc3", Severity.SERIOUS)
    assert verdict.immediate
    assert verdict.certain
    assert judge(math.nan, math.nan, math.nan, math.nan) is None
    assert judge(1.0, 1.0, 1.0, 1.0, first=[1.0, 50.0, 2000.0, 1.0]) is None  # it has healed
