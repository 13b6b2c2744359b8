"""Vanishing activations: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.vanishing_activations import VanishingActivations
from tests import networks
from tests.rules import by_hand


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
    verdicts = list(VanishingActivations().judge(layers=chain, activation_scale=scale))
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
