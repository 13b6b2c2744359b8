"""Vanishing gradients: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.vanishing_gradients import VanishingGradients
from tests import networks
from tests.rules import by_hand

SICK = [networks.vanishing_through_sigmoids, networks.vanishing_through_convolutions]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    trained = network()
    (finding,) = trained.found("vanishing_gradients")
    assert (finding.layer, finding.severity) == (trained.layer, trained.severity)
    assert "sigmoid" in finding.cause


def test_finds_the_generator_whose_adversary_is_too_sure() -> None:
    trained = networks.starved_generator()
    findings = trained.found("vanishing_gradients")
    assert [f.layer for f in findings if f.severity >= trained.severity and f.layer.startswith("generator")]
    assert "adversary" in findings[0].cause


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_they_do_not(network: Any) -> None:
    assert network().alarms("vanishing_gradients") == []


# The rule alone


def verdicts(
    *sizes: float, past: Any = (), frozen: tuple[str, ...] = (), optimizer_of: Any = None, **facts: Any
) -> list[Verdict]:
    """Of layers whose weights have gradients of this root mean square."""
    names = [f"fc{i + 1}" for i in range(len(sizes))]

    def measures(values: Any) -> Any:
        return by_hand.numbers(**{f"{name}.weight": value for name, value in zip(names, values, strict=True)})

    parameters = by_hand.parameters(*names, frozen=frozen)
    parameters.optimizer_of = optimizer_of or {}
    return list(
        VanishingGradients().judge(
            layers={name: by_hand.layer(act=nn.Sigmoid(), name=name) for name in names},
            parameters=parameters,
            window=by_hand.window(**facts),
            past=[by_hand.past({"gradient_rms": measures(values)}) for values in past],
            gradient_rms=measures(sizes),
        )
    )


def judge(*sizes: float, **facts: Any) -> Verdict | None:
    found = verdicts(*sizes, **facts)
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("least", "severity"),
    [
        (1.1e-4, None),
        (0.9e-4, Severity.WARNING),
        (1.1e-5, Severity.WARNING),
        (0.9e-5, Severity.SERIOUS),
        (1.1e-8, Severity.SERIOUS),
        (0.9e-8, Severity.CRITICAL),
    ],
)
def test_bands(least: float, severity: Severity | None) -> None:
    verdict = judge(least, 0.1, 1.0)
    assert (verdict and verdict.severity) == severity
    if verdict:
        assert verdict.layer == "fc1"
        assert verdict.value == pytest.approx(least)


def test_only_ratios_count() -> None:
    assert judge(1e-12, 1e-12, 1e-11) is None
    assert judge(1e3, 1e9, 1e9).severity == Severity.SERIOUS


def test_takes_twenty_steps() -> None:
    assert judge(1e-6, 1.0, seen=19) is None
    assert judge(1e-6, 1.0, seen=20) is not None


def test_a_loss_that_has_converged_has_small_gradients() -> None:
    converged = by_hand.losses(*[2.0] * 20, *[0.09] * 20)
    assert judge(1e-6, 1.0, progress=converged) is None
    assert judge(1e-6, 1.0, progress=by_hand.learning()) is not None


def test_frozen_and_cut_off_layers_are_left_out() -> None:
    assert judge(1e-9, 0.5, 1.0, frozen=("fc1",)) is None
    assert judge(0.0, 0.5, 1.0) is None


def test_what_lies_before_the_faintest_has_vanished_altogether() -> None:
    verdict = judge(0.0, 0.0, 1e-12, 1.0)
    assert (verdict.layer, verdict.severity, verdict.value) == ("fc1", Severity.CRITICAL, 0.0)
    assert judge(1e-12, 0.0, 0.0, 1.0).layer == "fc1"  # 0 behind it is another matter
    assert judge(0.0, 1e-6, 1.0).layer == "fc2"  # cut off


def test_tells_the_way_back_from_a_branch() -> None:
    assert "slopes of sigmoid" in judge(1e-6, 1.0).cause
    assert "branch" in judge(1.0, 1e-6).cause


def test_adversarial_parts_are_held_against_their_own_start() -> None:
    adversarial = by_hand.losses(*[1.0] * 40, adversarial=True)
    assert judge(0.9e-3, 1e-2, past=[(1.0, 1.0)], progress=adversarial).layer == "fc1"
    assert judge(1.1e-3, 1e-2, past=[(1.0, 1.0)], progress=adversarial) is None
    assert judge(0.9e-3, 1e-2, past=[(1.0, 1.0)]) is None


def test_names_every_side_that_starves_once() -> None:
    """A sure discriminator has small gradients itself; the generator behind it is what suffers."""
    adversarial = by_hand.losses(*[1.0] * 40, adversarial=True)
    sides = {"fc1.weight": 0, "fc2.weight": 0, "fc3.weight": 1}
    found = verdicts(1e-4, 1e-4, 1e-4, past=[(1.0, 1.0, 1.0)], progress=adversarial, optimizer_of=sides)
    assert [verdict.layer for verdict in found] == ["fc1", "fc3"]
    assert ["1 more that learn" in verdict.message for verdict in found] == [True, False]
    sides["fc2.weight"] = 1
    assert verdicts(1e-4, 1e-4, 1.0, past=[(1.0, 1.0, 1.0)], progress=adversarial, optimizer_of=sides)[1].layer == "fc2"


def test_names_the_first_of_those_that_are_as_bad() -> None:
    assert judge(1e-6, 1e-7, 1.0).layer == "fc1"
    assert judge(1e-6, 1e-9, 1.0).layer == "fc2"


def test_a_branch_that_wakes_up_is_silent() -> None:
    """Layer scale starts at a millionth: the branch behind it learns once the scale has."""
    assert judge(1e-5, 1.0, past=[(1e-5, 1.0)]) is not None
    assert judge(5e-5, 1.0, past=[(1e-5, 1.0)]) is not None
    assert judge(5e-5, 1.0, past=[(1e-6, 1.0)]) is None
    assert judge(1e-9, 5e-5, 1.0, past=[(1e-9, 1e-6, 1.0)]).layer == "fc1"


def test_the_sides_of_an_adversarial_training_are_not_held_against_each_other() -> None:
    adversarial = by_hand.losses(*[1.0] * 40, adversarial=True)
    own = {"fc1.weight": 0, "fc2.weight": 0, "fc3.weight": 1, "fc4.weight": 1}
    assert verdicts(1e-6, 1e-6, 1.0, 1.0, progress=adversarial, optimizer_of=own) == []
    (found,) = verdicts(1e-6, 1.0, 1.0, 1.0, progress=adversarial, optimizer_of=own)
    assert found.layer == "fc1"
