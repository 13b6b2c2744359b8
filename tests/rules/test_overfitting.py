"""A validation loss that rises while the training loss falls: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.progress import Progress
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.overfitting import Overfitting
from tests import networks
from tests.rules import by_hand, sick_runs, tempting_runs

SICK = [sick_runs.learned_by_heart, sick_runs.transformer_by_heart, sick_runs.noise_by_heart]
HEALTHY = [*networks.HEALTHY, *tempting_runs.HEALTHY]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    (finding,) = network().found("overfitting")
    assert finding.severity >= Severity.SERIOUS
    assert "by heart" in finding.cause
    assert "keep the weights of evaluation" in finding.remedy


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_silent_before_the_validation_loss_has_turned(network: Any) -> None:
    for report in network().reports:
        losses = report.run["validation_history"].tolist()
        if len(losses) - 1 - losses.index(min(losses)) < 2:
            assert not [f for f in report.findings if f.condition == "overfitting"]


@pytest.mark.parametrize("network", HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_is_none(network: Any) -> None:
    assert [f for report in network().reports for f in report.findings if f.condition == "overfitting"] == []


# The rule alone

FALLING = [2.3 * 0.98**i for i in range(200)]


def judge(*validation: float, train: Any = FALLING, adversarial: bool = False, **facts: Any) -> Verdict | None:
    """After these evaluations, evenly spread over a run with these training losses."""
    progress = by_hand.losses(*train, adversarial=adversarial)
    verdicts = list(
        Overfitting().judge(
            window=by_hand.window(progress=progress, **facts),
            validation_history=torch.tensor(validation, dtype=torch.float64),
            train_loss=torch.tensor(train),
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def up_to(times: float, least: float = 1.0) -> list[float]:
    """Down to the least, then up in five evaluations."""
    return [2.2 * least, 1.5 * least, 1.1 * least, least, *(least * (1 + (times - 1) * i / 5) for i in range(1, 6))]


@pytest.mark.parametrize(
    ("times", "severity"),
    [
        (1.19, None),
        (1.21, Severity.WARNING),
        (1.29, Severity.WARNING),
        (1.31, Severity.SERIOUS),
        (1.99, Severity.SERIOUS),
        (2.01, Severity.CRITICAL),
    ],
)
def test_bands(times: float, severity: Severity | None) -> None:
    verdict = judge(*up_to(times))
    assert (verdict and verdict.severity) == severity
    if verdict:
        assert verdict.value == pytest.approx(times)
        assert verdict.certain


def test_names_the_evaluation_to_go_back_to() -> None:
    verdict = judge(*up_to(1.5))
    assert "from 1 at evaluation 4 to 1.5 at evaluation 9" in verdict.message
    assert "keep the weights of evaluation 4" in verdict.remedy


def test_takes_three_evaluations_since_the_least() -> None:
    assert judge(2.0, 1.0, 1.5, 2.0) is None
    assert judge(2.0, 1.0, 1.5, 2.0, 2.5) is not None


def test_may_rise_from_the_first() -> None:
    assert judge(1.0, 1.3, 1.6, 1.9).severity == Severity.SERIOUS


def test_the_training_loss_must_fall() -> None:
    assert judge(*up_to(1.5), train=[2.0] * 200) is None
    assert judge(*up_to(1.5), train=FALLING[::-1]) is None
    assert judge(*up_to(1.5), train=[2.0, 1.0] * 5 + [1e-3] * 190) is not None  # it has nowhere to go


def test_a_gap_is_no_finding() -> None:
    assert judge(2.0, 1.5, 1.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0) is None


def test_noise_is_no_rise() -> None:
    numbers = random.Random(0)
    for _ in range(50):
        assert judge(2.0, 1.5, 1.2, *(numbers.gauss(1.0, 0.12) for _ in range(30))) is None


def test_what_has_come_down_again_is_no_rise() -> None:
    assert judge(2.0, 1.0, 1.4, 1.6, 1.8, 1.6, 1.4, 1.3, 1.2) is None


def test_next_to_nothing_may_double() -> None:
    """A classifier that is right on all rows, and on one of them less and less."""
    assert judge(2.2, 0.5, 0.03, 0.02, 0.03, 0.035, 0.04, 0.045) is None


def test_negative_losses() -> None:
    assert judge(1.0, -0.5, -1.0, -0.9, -0.8, -0.7, -0.6).severity == Severity.SERIOUS
    assert judge(1.0, -0.5, -1.0, -0.98, -0.97, -0.95, -0.93) is None


def test_silent_without_evaluations_or_numbers() -> None:
    assert judge() is None
    assert judge(2.0, 1.0, math.nan, 1.5, 1.8) is None
    assert judge(*up_to(1.5), train=[]) is None
    assert judge(*up_to(1.5), train=[math.nan] * 50) is None
    assert judge(*up_to(1.5), adversarial=True) is None


def test_a_network_that_learns_well_is_not_excused() -> None:
    progress = Progress()
    progress.add(FALLING, 0, 1)
    assert progress.learning
    assert judge(*up_to(2.5)).severity == Severity.CRITICAL
