"""Saturation: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.progress import Progress
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.saturation import Saturation
from tests import networks
from tests.rules import by_hand, trained
from tests.rules.trained import Trained

SICK = [networks.saturated_by_weights, networks.saturated_at_zero_by_bias, networks.saturated_functional]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_it(network: Any) -> None:
    run: Trained = network()
    (finding,) = run.found("saturation")
    assert finding.layer == run.layer
    assert finding.severity == run.severity
    assert run.neurons <= set(finding.neurons)


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_is_none(network: Any) -> None:
    assert network().alarms("saturation") == []


def test_tells_bias_from_weights() -> None:
    (by_bias,) = networks.saturated_at_zero_by_bias().found("saturation")
    assert "stays on one side: its bias" in by_bias.cause
    (by_weights,) = networks.saturated_by_weights().found("saturation")
    assert ": its weights have" in by_weights.cause


# The rule alone

NOTHING_LEARNED = by_hand.flat()


def judge(
    share: float,
    tail: float | None = None,
    layer: Any = None,
    at_start: float = 0.0,
    progress: Progress = NOTHING_LEARNED,
    **facts: Any,
) -> Verdict | None:
    """A tanh layer on this share of rows at an end, in all neurons alike."""
    layer = layer or by_hand.layer(act=nn.Tanh(), **facts)
    rate = torch.full((100,), share, dtype=torch.float64)
    tails = {} if tail is None else {"tail_rate": torch.full((100,), tail, dtype=torch.float64)}
    first = torch.full((100,), at_start, dtype=torch.float64)
    window, initial = by_hand.window(progress=progress), {"saturation_rate": {"fc1": first}}
    return Saturation().judge(
        layer=layer, layers={"fc1": layer}, window=window, initial=initial, saturation_rate=rate, **tails
    )


def judge_output(
    share: float = 1.0, std: float = 1e-3, level: float = 2.0, seen: int = 200, outputs: int = 1, low: float = 1.0
) -> Verdict | None:
    """A sigmoid at the end of a network whose loss of 2 is at this level now."""
    layers = {f"fc{i}": by_hand.layer(name=f"fc{i}", act=nn.Sigmoid(), output=True) for i in range(outputs)}
    mean = torch.ones(100)
    mean[0] = low
    return Saturation().judge(
        layer=layers["fc0"],
        layers=layers,
        window=by_hand.window(progress=by_hand.losses(*[2.0] * 20, *[level] * 20), seen=seen),
        initial={},
        saturation_rate=torch.full((100,), share),
        activation_mean=mean,
        activation_std=torch.full((100,), std),
    )


@pytest.mark.parametrize(
    ("facts", "speaks"),
    [
        ({}, True),
        ({"level": 1.1}, True),
        ({"level": 0.9}, False),
        ({"share": 0.94}, False),
        ({"std": 0.011}, False),
        ({"seen": 99}, False),
        ({"outputs": 2}, False),
    ],
    ids=str,
)
def test_an_output_that_is_one_constant_at_an_end(facts: Any, speaks: bool) -> None:
    verdict = judge_output(**facts)
    assert (verdict is not None) == speaks
    if verdict:
        assert (verdict.severity, verdict.certain) == (Severity.SERIOUS, True)
        assert "its upper end 1 of sigmoid" in verdict.message
        assert "the range of sigmoid, 0 to 1" in verdict.cause


def test_says_at_which_ends_the_outputs_are() -> None:
    assert "at both ends of sigmoid" in judge_output(low=0.0).message


def test_finds_targets_beyond_the_range_of_the_output() -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 8)
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
    reports = trained.train(
        net,
        trained.regress,
        data=(x, 5 + 2 * x[:, 0]),
        optimizer=trained.adam(net, 1e-2),
        steps=240,
        window=40,
        every=4,
    )
    assert net(x).detach().min() > 0.98
    (finding,) = [f for f in reports[-1].findings if f.condition == "saturation"]
    assert (finding.layer, finding.severity) == ("2", Severity.SERIOUS)


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


def test_learning_does_not_excuse_a_layer_that_was_stuck_at_the_first_step() -> None:
    learning = by_hand.learning()
    verdict = judge(0.99, at_start=0.81, progress=learning)
    assert (verdict.certain, verdict.severity) == (True, Severity.SERIOUS)  # the rest works
    assert judge(0.99, at_start=0.81).severity == Severity.CRITICAL
    assert judge(0.7, at_start=0.99, progress=learning).severity == Severity.WARNING
    assert not judge(0.99, at_start=0.79, progress=learning).certain


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
    verdict = Saturation().judge(
        layer=by_hand.layer(act=nn.Tanh()), layers={}, window=by_hand.window(), initial={}, saturation_rate=rate
    )
    assert verdict.severity == Severity.SERIOUS
    assert verdict.value == pytest.approx(0.895)
    assert verdict.neurons == tuple(range(50))


def explain(mean: float, std: float, layer: Any = None, **evidence: float) -> Verdict:
    """What is said of pre-activations with this mean and spread, and weights of norm 1."""
    known = {name: torch.full(() if name == "init_scale" else (100,), value) for name, value in evidence.items()}
    sizes = {"preactivation_mean": torch.full((100,), mean), "preactivation_std": torch.full((100,), std)}
    layer = layer or by_hand.layer(act=nn.Tanh())
    facts = {"saturation_rate": torch.ones(100), "weight_norm": torch.ones(100), **sizes, **known}
    verdict = Saturation().judge(layer=layer, layers={}, window=by_hand.window(), initial={}, **facts)
    assert verdict is not None
    assert "between -2.5 and 2.5" in verdict.cause
    return verdict


@pytest.mark.parametrize(
    ("mean", "std", "bias", "spread", "cause", "remedy"),
    [
        (9.0, 0.5, 9.0, 0.6, "stays on one side: its bias", "zero bias"),
        (9.0, 0.5, 0.1, 9.0, "stays on one side: its weights have 9 times", "Xavier"),
        (0.1, 9.0, 0.1, 9.0, "swing from end to end: its weights have 9 times", "Xavier"),
        (0.1, 9.0, 0.1, 0.6, "what it reads is too large", "normalise what fc1 reads"),
        (9.0, 0.5, 0.1, 0.6, "what it reads is too large", "normalise what fc1 reads"),
    ],
)
def test_tells_the_bias_from_the_weights_and_the_inputs(
    mean: float, std: float, bias: float, spread: float, cause: str, remedy: str
) -> None:
    verdict = explain(mean, std, bias_negativity=bias, init_scale=spread)
    assert cause in verdict.cause
    assert remedy in verdict.remedy.partition(",")[0]


def test_behind_a_norm_that_is_what_makes_them_large() -> None:
    verdict = explain(0.1, 60.0, by_hand.layer(act=nn.Tanh(), normalized=True))
    assert "the norm before it" in verdict.cause
    assert "put a normalisation" not in verdict.remedy
