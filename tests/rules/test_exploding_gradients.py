"""Exploding gradients: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.exploding_gradients import ExplodingGradients
from tests import networks
from tests.rules import by_hand

SICK = [networks.diverging_regression, networks.diverging_slowly, networks.outliers_in_the_data]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    trained = network()
    (finding,) = trained.found("exploding_gradients")
    assert (finding.layer, finding.severity) == (None, trained.severity)
    assert "clip" in finding.remedy


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_they_do_not(network: Any) -> None:
    assert network().alarms("exploding_gradients") == []


# The rule alone


def judge(*norms: float, before: Any = (), losses: Any = None, **facts: Any) -> Verdict | None:
    """From the norms at the measured steps of this window and of those before, and the losses of all its steps."""
    past = [by_hand.past({"global_gradient_norm": torch.tensor(points)}) for points in before]
    rule, window = ExplodingGradients(), by_hand.window(**facts)
    loss = None if losses is None else torch.tensor(losses)
    verdicts = list(rule.judge(window=window, past=past, global_gradient_norm=torch.tensor(norms), train_loss=loss))
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


USUAL = [1.0] * 15


@pytest.mark.parametrize(
    ("leaps", "severity"),
    [(0, None), (1, Severity.WARNING), (2, Severity.WARNING), (3, Severity.SERIOUS), (6, Severity.SERIOUS)],
)
def test_leaps(leaps: int, severity: Severity | None) -> None:
    verdict = judge(*USUAL, *[150.0, 1.0] * leaps)
    assert (verdict and verdict.severity) == severity
    if verdict:
        assert verdict.value == pytest.approx(150)
        assert f"on {leaps} of the last {15 + 2 * leaps} measured steps" in verdict.message


@pytest.mark.parametrize(("size", "speaks"), [(99.0, False), (101.0, True)])
def test_a_leap_is_a_hundred_times_the_running_median(size: float, speaks: bool) -> None:
    assert (judge(*USUAL, size) is not None) == speaks
    assert (judge(*[9000.0] * 15, 9000 * size) is not None) == speaks


def test_a_few_steps_are_no_usual_size() -> None:
    assert judge(*[1.0] * 9, 150.0) is None
    assert judge(150.0, 1.0, before=[USUAL]) is not None


def test_leaps_add_up_over_windows_of_a_few_measured_steps() -> None:
    windows = [[1.0, 150.0, 1.0]] * 12
    assert judge(1.0, 150.0, 1.0, before=windows).severity == Severity.SERIOUS
    assert judge(1.0, 1.0, 1.0, before=windows) is None  # none is new
    assert judge(1.0, 150.0, 1.0, before=[*windows, *[[1.0] * 3] * 17]).severity == Severity.WARNING  # long ago


def test_large_is_not_exploding() -> None:
    assert judge(*[9000.0, 12000.0] * 10) is None


def test_growth_that_ends_in_nan_is_critical_at_once() -> None:
    verdict = judge(1.0, 50.0, 3e3, 1e6, math.nan, math.nan)
    assert verdict.severity == Severity.CRITICAL
    assert verdict.immediate
    assert verdict.value == pytest.approx(1e6)
    assert judge(1.0, 50.0, 3e3, math.nan).severity == Severity.CRITICAL
    assert judge(1.0, 3e3, math.nan) is None  # a single leap


@pytest.mark.parametrize(
    ("losses", "speaks"),
    [
        ([2.0, 1.5, 90.0, 2e6, math.inf], True),
        ([2.0, 1.5, 90.0, 1400.0, math.nan], False),
        ([2.0, 1.5, 2e6, 90.0, math.nan], False),  # a spike, and a NaN of its own
        ([2.0, 1.5, 90.0, 2e6, 3e9], False),  # it may come down again
    ],
)
def test_growth_between_two_measured_steps_shows_in_the_loss(losses: list[float], speaks: bool) -> None:
    verdict = judge(1.0, math.nan, losses=losses)
    assert (verdict is not None) == speaks
    if verdict:
        assert (verdict.severity, verdict.value) == (Severity.CRITICAL, pytest.approx(2e6 / 1.5))
        assert "from 1.5 to 2e+06 over 3 steps" in verdict.message


CLIMB = (1.0, 8.0, 50.0, 400.0, 3e3, 1e6)


def test_growth_with_a_rising_loss_is_critical() -> None:
    assert judge(*CLIMB, progress=by_hand.rising()).severity == Severity.CRITICAL
    assert judge(*CLIMB) is None  # a loss that stands it


def test_a_few_rising_points_are_chance() -> None:
    assert judge(*CLIMB[1:], progress=by_hand.rising()) is None


def test_growth_over_windows_of_a_few_measured_steps() -> None:
    before = [CLIMB[:2], CLIMB[2:4]]
    assert judge(*CLIMB[4:], before=before, progress=by_hand.rising()).value == pytest.approx(1e6)
    assert judge(1.0, 0.5, before=[CLIMB], progress=by_hand.rising()) is None  # it is over


def test_growth_must_be_a_thousandfold() -> None:
    assert judge(1.0, 5.0, 20.0, 900.0, math.nan) is None
    assert judge(1.0, 5.0, 20.0, 1100.0, math.nan).severity == Severity.CRITICAL


def test_huge_with_a_rising_loss_is_serious() -> None:
    assert judge(*[2000.0] * 10, progress=by_hand.rising()).severity == Severity.SERIOUS
    assert judge(*[500.0] * 10, progress=by_hand.rising()) is None
    assert judge(*[2000.0] * 10, progress=by_hand.learning()) is None


def test_nothing_finite_is_left_to_others() -> None:
    assert judge(math.nan, math.inf) is None


def test_a_loss_that_jitters_around_nothing_does_not_rise() -> None:
    """After a resume: most losses are tiny, some are a thousand times as large, at the start as now."""
    jitter = [1e-5, 1e-5, 1e-2, 1e-5, 2e-2, 1e-3, 1e-5, 1e-2] * 5
    assert judge(*CLIMB, progress=by_hand.losses(*jitter[:20], *sorted(jitter[20:]))) is None
