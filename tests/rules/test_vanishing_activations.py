"""Vanishing activations: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.vanishing_activations import VanishingActivations
from tests import networks
from tests.rules import by_hand
from tests.rules.trained import X, adam, train


@pytest.mark.parametrize("network", [networks.vanishing_tanh, networks.vanishing_convolutions])
def test_finds_them(network: Any) -> None:
    trained = network()
    (finding,) = trained.found("vanishing_activations")
    assert finding.severity >= trained.severity
    scales = {name: float(layer["activation_scale"]) for name, layer in trained.report.items()}
    first = next(iter(scales.values()))
    # the layer that is named is where the spread falls under the threshold
    names = list(scales)
    before = names[names.index(finding.layer) - 1]
    assert scales[finding.layer] < 1e-5 * first <= scales[before]


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_they_do_not(network: Any) -> None:
    assert network().alarms("vanishing_activations") == []


# The rule alone


def judge(*scales: float, outputs: int = 1, **layers: Any) -> Verdict | None:
    """Layers with these activation scales, the last ones of them outputs."""
    chain = {**by_hand.chain(len(scales), nn.Tanh(), outputs), **layers}
    scale = by_hand.numbers(**dict(zip(chain, scales, strict=True)))
    verdicts = list(
        VanishingActivations().judge(layers=chain, activation_scale=scale, initial={}, window=by_hand.window())
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


@pytest.mark.parametrize(
    ("end", "severity"),
    [
        (1.1e-4, None),
        (0.9e-4, Severity.WARNING),
        (1.1e-5, Severity.WARNING),
        (0.9e-5, Severity.SERIOUS),
        (1.1e-8, Severity.SERIOUS),
        (0.9e-8, Severity.CRITICAL),
    ],
)
def test_bands(end: float, severity: Severity | None) -> None:
    ratio = end**0.25
    verdict = judge(*[ratio**i for i in range(5)], 1.0)
    assert (verdict and verdict.severity) == severity


def test_only_ratios_count() -> None:
    falling = [10.0 ** (-2 * i) for i in range(5)]
    assert judge(*falling, 1.0).value == pytest.approx(judge(*[1e6 * f for f in falling], 1.0).value)


def test_names_the_first_layer_below() -> None:
    assert judge(1, 1e-2, 1e-4, 1e-6, 1e-8, 1.0).layer == "fc4"


def test_steeper_is_worse() -> None:
    assert judge(1, 1e-3, 1e-6, 1e-9, 1e-12, 1.0).severity == Severity.CRITICAL


def test_a_single_fall_is_not_geometric() -> None:
    assert judge(1, 1, 1, 1, 1e-7, 1.0) is None


def test_a_fall_that_a_norm_makes_good_is_harmless() -> None:
    assert judge(1, 1e-2, 1e-4, 1e-6, 1, 1, 1.0) is None


def test_zeros_of_a_branch_that_starts_at_zero_are_honest() -> None:
    assert judge(1, 0, 1, 0, 1, 0, 1, 1.0) is None


def test_too_few_layers_to_tell() -> None:
    assert judge(1, 1e-4, 1e-8, 1.0) is None


def test_outputs_do_not_count() -> None:
    assert judge(1, 0.5, 0.2, 0.1, 1e-3, 1e-5, 1e-7, outputs=3) is None


def test_a_layer_behind_a_norm_begins_anew() -> None:
    assert judge(1, 1e-2, 1e-4, 1e-6, 1e-8, 1.0) is not None
    assert judge(1, 1e-2, 1e-4, 1e-6, 1e-8, 1.0, fc3=by_hand.layer(name="fc3", order=2)) is None


def test_a_gate_sets_no_scale() -> None:
    assert judge(1, 1e-2, 1e-4, 1e-6, 1.0, fc4=by_hand.chain(5)["fc4"]).value == pytest.approx(1e-6)
    gate = by_hand.layer(name="fc4", order=3, gate=True, sources=frozenset({"fc3"}))
    assert judge(1, 1e-2, 1e-4, 1e-6, 1.0, fc4=gate) is None


# Outputs that have collapsed


def collapsed(
    *left: float, varies: float = 0.01, neurons: int = 8, adversarial: bool = False, start: float = 1.0
) -> Verdict | None:
    """Outputs of which each has this share of its spread left, and varies by this share of its mean."""
    layers = {f"fc{i}": by_hand.linear(neurons, f"fc{i}", order=i, output=True) for i in range(len(left))}
    std = {name: torch.full((neurons,), start * share) for name, share in zip(layers, left, strict=True)}
    verdicts = list(
        VanishingActivations().judge(
            layers=layers,
            activation_scale=by_hand.numbers(**{name: float(spread[0]) for name, spread in std.items()}),
            initial={"activation_std": {name: torch.full((neurons,), start) for name in layers}},
            window=by_hand.window(progress=by_hand.losses(*[2.0] * 40, adversarial=adversarial)),
            activation_std=std,
            activation_mean={name: spread / varies for name, spread in std.items()},
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def test_outputs_that_say_the_same_of_all_rows_are_a_warning() -> None:
    verdict = collapsed(0.09)
    assert (verdict.severity, verdict.layer) == (Severity.WARNING, "fc0")
    assert "vary by 0.01 of their mean, and by 0.09 of what they did" in verdict.message
    assert "standardise the targets" in verdict.remedy


@pytest.mark.parametrize(
    "facts",
    [{"varies": 0.2}, {"neurons": 7}, {"adversarial": True}, {"start": 0.0}],
    ids=["beside their mean they vary", "few", "adversaries", "a head that starts at zero"],
)
def test_silent_about_other_outputs(facts: dict[str, Any]) -> None:
    assert collapsed(0.09, **facts) is None


def test_silent_where_an_output_still_varies() -> None:
    assert collapsed(0.11) is None
    assert collapsed(0.09, 0.11) is None
    assert collapsed(0.09, 0.02) is not None


def test_finds_a_representation_that_nothing_pushes_apart() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 32))

    def alike(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        one, other = (net(x + 0.2 * torch.randn_like(x)) for _ in range(2))
        return nn.functional.mse_loss(one, other)

    def spread() -> Tensor:
        return net(X).std(0).max().detach()

    before = spread()
    reports = train(net, alike, optimizer=adam(net, 3e-3), steps=200, every=4, window=40)
    assert spread() < 0.1 * before
    (finding,) = [f for f in reports[-1].findings if f.condition == "vanishing_activations"]
    assert (finding.layer, finding.severity) == ("4", Severity.WARNING)
