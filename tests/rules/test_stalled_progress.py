"""A loss that fell and falls no more: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.progress import Progress
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.stalled_progress import StalledProgress
from tests import networks
from tests.rules import by_hand, sick_runs, tempting_runs


def found(network: Any) -> list[Any]:
    return [f for report in network().reports for f in report.findings if f.condition == "stalled_progress"]


@pytest.mark.parametrize("network", [sick_runs.frozen_half_way, sick_runs.held_up_by_its_rate])
def test_finds_it(network: Any) -> None:
    assert {finding.severity for finding in found(network)} == {Severity.WARNING}


def test_tells_what_is_no_longer_trained_from_what_bounces() -> None:
    assert "gradient of most weight matrices is exactly 0" in found(sick_runs.frozen_half_way)[-1].cause
    assert "decay the learning rate" in found(sick_runs.held_up_by_its_rate)[-1].remedy


CHASES_ITSELF = {tempting_runs.value_learning}
"""What it learns moves its own targets, so that the loss rises while it gets better; that does not show in the loss."""
HEALTHY = [*networks.HEALTHY, *(run for run in tempting_runs.HEALTHY if run not in CHASES_ITSELF)]


@pytest.mark.parametrize("network", HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_is_none(network: Any) -> None:
    assert found(network) == []


# The rule alone

Curve = Callable[[float], float]
STALLED: Curve = lambda t: max(0.5, 2.0 - 5 * t)  # noqa: E731


def run(curve: Curve, windows: int = 20, size: int = 30, noise: float = 0.02, seed: int = 0) -> list[list[float]]:
    """Losses of each window: the curve over shares of the run, and noise."""
    numbers = random.Random(seed)
    total = windows * size
    losses = [curve(i / total) + numbers.gauss(0, noise) for i in range(total)]
    return [losses[i : i + size] for i in range(0, total, size)]


def judge(
    windows: list[list[float]],
    rate: Curve = lambda t: 0.1,
    ratio: Curve | None = None,
    adversarial: bool = False,
    **evidence: Any,
) -> Verdict | None:
    """At the end of such a run; learning rate and update ratio are functions of the share of it."""
    progress, past, seen = Progress(adversarial=adversarial), [], 0
    measures: dict[str, Any] = {}
    for i, losses in enumerate(windows):
        progress.add(losses, seen, 1)
        seen += len(losses)
        t = (i + 1) / len(windows)
        measures = {} if ratio is None else {"update_ratio": by_hand.numbers(**{"fc1.weight": ratio(t)})}
        past.append(by_hand.past(measures, seen=seen, learning_rate=rate(t)))
    verdicts = list(
        StalledProgress().judge(
            window=by_hand.window(seen=seen, learning_rate=rate(1.0), progress=progress),
            past=past[:-1],
            layers=by_hand.chain(1),
            parameters=by_hand.parameters("fc1"),
            train_loss=torch.tensor(windows[-1]),
            **{**measures, **evidence},
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def test_flat_since_a_third_of_the_run() -> None:
    verdict = judge(run(STALLED, noise=0.0))
    assert verdict.severity == Severity.WARNING
    assert "it is 0.5 " in verdict.message
    assert "after 1.98 at the start and 0.5 at its best" in verdict.message


@pytest.mark.parametrize(
    "curve",
    [
        lambda t: 2.0 - t,
        lambda t: 0.5 + 1.5 * math.exp(-5 * t),
        lambda t: 2.0 * (1 + 600 * t) ** -0.07,
        lambda t: 2.0 if t < 0.2 else max(0.5, 3.0 - 2.6 * t),
    ],
    ids=["straight", "exponential", "power law of a language model", "late"],
)
@pytest.mark.parametrize("seed", range(5))
def test_silent_while_it_falls(curve: Curve, seed: int) -> None:
    assert judge(run(curve, seed=seed)) is None


def test_a_loss_that_has_risen_names_the_place_to_go_back_to() -> None:
    verdict = judge(run(lambda t: max(0.5, 2.0 - 10 * t) + 0.5 * (t > 0.4)))
    assert "has risen since" in verdict.cause
    assert "go back to the weights of about step" in verdict.remedy


def test_what_has_never_fallen_is_a_plateau() -> None:
    assert judge(run(lambda t: 2.0)) is None


def test_what_is_next_to_nothing_has_arrived() -> None:
    assert judge(run(lambda t: max(0.05, 2.0 - 10 * t), noise=0.01)) is None
    assert judge(run(lambda t: max(-0.5, 2.0 - 10 * t), noise=0.01)) is not None


def test_a_loss_of_both_signs_is_no_distance() -> None:
    assert judge(run(lambda t: max(-0.5, 0.1 - 5 * t))) is None
    assert judge(run(lambda t: max(-2.5, -0.1 - 5 * t))) is not None


def test_needs_several_windows_and_enough_steps() -> None:
    assert judge(run(STALLED, windows=5, size=120)) is None
    assert judge(run(STALLED, windows=20, size=10)) is None
    assert judge(run(STALLED, windows=7, size=90)) is not None


def test_noise_that_could_hide_a_fall_proves_nothing() -> None:
    assert judge(run(STALLED, noise=0.6)) is None


@pytest.mark.parametrize(
    "rate",
    [lambda t: 0.1 if t < 0.5 else 0.01, lambda t: 0.1 * (1 - t), lambda t: 0.1 * t],
    ids=["stepped down", "decays", "warms up"],
)
def test_silent_where_a_schedule_is_at_work(rate: Curve) -> None:
    assert judge(run(STALLED), rate) is None


def test_an_unknown_rate_is_judged_by_the_steps() -> None:
    def unknown(t: float) -> float:
        return math.nan

    assert judge(run(STALLED), unknown) is None
    assert judge(run(STALLED), unknown, ratio=lambda t: 1e-3) is not None
    assert judge(run(STALLED), unknown, ratio=lambda t: 1e-3 * (1.01 - t)) is None


def test_says_what_the_gradients_say() -> None:
    zero = {"gradient_norm": by_hand.numbers(**{"fc1.weight": 0.0})}
    assert "exactly 0" in judge(run(STALLED), **zero).cause
    noise = {"gradient_snr": by_hand.numbers(**{"fc1.weight": 1.0})}
    assert "gradients are noise (1 times" in judge(run(STALLED), **noise).cause


def test_silent_for_adversaries_and_numbers_that_are_none() -> None:
    assert judge(run(STALLED), adversarial=True) is None
    assert judge([[math.nan] * 30] * 20) is None
