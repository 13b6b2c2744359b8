"""Gradients that agree no more than chance: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.low_gradient_snr import LowGradientSnr
from tests import networks
from tests.rules import by_hand, sick_runs, tempting_runs

SICK = [
    sick_runs.labels_drawn_by_lot,
    sick_runs.noise_for_a_conv_net,
    sick_runs.targets_of_noise,
    sick_runs.shuffled_labels_on_frozen_features,
]
OTHERS = [sick_runs.adam_that_stands_still, sick_runs.dead_from_the_start, sick_runs.adam_in_a_transformer]
HEALTHY = [*networks.HEALTHY, *tempting_runs.HEALTHY]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    (finding,) = network().found("low_gradient_snr")
    assert finding.severity == Severity.SERIOUS
    assert "labels" in finding.cause


@pytest.mark.parametrize("network", [*HEALTHY, *OTHERS], ids=lambda network: network.__name__)
def test_silent_where_it_is_no_fault(network: Any) -> None:
    assert [f for report in network().reports for f in report.findings if f.condition == "low_gradient_snr"] == []


# The rule alone


def noise(level: float, size: float, number: int, seed: int = 0) -> list[float]:
    numbers = random.Random(seed)
    return [numbers.gauss(level, size) for _ in range(number)]


def judge(
    *snrs: float,
    losses: Any = None,
    before: Any = (),
    ratio: float | None = 1e-3,
    outputs: float | None = 0.1,
    gradients: Any = None,
    adversarial: bool = False,
    **facts: Any,
) -> Verdict | None:
    """Of layers with these ratios now, and in windows of 20 measured steps before."""
    names = [f"fc{i + 1}" for i in range(len(snrs))]

    def of(values: Any) -> Any:
        return by_hand.numbers(**{f"{name}.weight": value for name, value in zip(names, values, strict=True)})

    progress = by_hand.losses(*(losses or noise(2.3, 0.05, 200)), adversarial=adversarial)
    verdicts = list(
        LowGradientSnr().judge(
            window=by_hand.window(**{"seen": 200, "step": 200, "progress": progress, **facts}),
            past=[by_hand.past({"gradient_snr": of(values)}, seen=100, step=100) for values in before],
            layers={name: by_hand.layer(name=name, output=name == names[-1]) for name in names},
            parameters=by_hand.parameters(*names),
            initial={} if gradients is None else {"gradient_rms": of(gradients[0])},
            gradient_rms=None if gradients is None else of(gradients[1]),
            gradient_snr=of(snrs),
            train_loss=torch.tensor(progress.losses),
            update_ratio=None if ratio is None else of([ratio] * len(names)),
            activation_std=None if outputs is None else {names[-1]: torch.full((10,), outputs)},
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def level(verdict: Verdict | None) -> Severity | None:
    return verdict and verdict.severity


@pytest.mark.parametrize(
    ("snr", "severity"),
    [
        (2.1, None),
        (1.9, Severity.WARNING),
        (1.6, Severity.WARNING),
        (1.4, Severity.SERIOUS),
        (0.1, Severity.SERIOUS),
        (math.nan, None),
        (math.inf, None),
    ],
)
def test_bands(snr: float, severity: Severity | None) -> None:
    assert level(judge(snr, snr)) == severity


def test_the_median_over_matrices_counts() -> None:
    assert judge(1.0, 9.0, 9.0) is None
    assert judge(1.0, 1.0, 9.0).value == 1.0


def test_takes_the_mean_over_windows() -> None:
    assert judge(1.0, 1.0, before=[(9.0, 9.0)] * 2) is None
    assert level(judge(2.0, 2.0, before=[(0.5, 0.5)] * 2)) == Severity.SERIOUS
    assert level(judge(1.0, 1.0, before=[(9.0, 9.0)] * 2 + [(1.0, 1.0)] * 2)) == Severity.SERIOUS  # long ago


def test_takes_twenty_measured_steps() -> None:
    assert judge(1.0, 1.0, measured=19) is None
    assert judge(1.0, 1.0, measured=20) is not None
    assert judge(1.0, 1.0, measured=4, before=[(1.0, 1.0)]) is not None


def test_grace() -> None:
    assert judge(1.0, 1.0, seen=59, step=59) is None
    assert judge(1.0, 1.0, seen=60, step=60) is not None


@pytest.mark.parametrize(
    "losses",
    [noise(2.3, 0.05, 100) + noise(1.9, 0.05, 100), noise(2.3, 2.0, 200), noise(0, 0.1, 200), [0.0] * 200, [2.3] * 9],
    ids=["fallen", "noisy", "around zero", "zero", "few"],
)
def test_silent_where_the_loss_is_not_flat(losses: list[float]) -> None:
    assert judge(1.0, 1.0, losses=losses) is None


def test_a_fall_beyond_doubt_makes_it_a_warning() -> None:
    assert level(judge(1.0, 1.0, losses=noise(2.3, 0.01, 100) + noise(2.25, 0.01, 100, 1))) == Severity.WARNING


@pytest.mark.parametrize(
    "facts", [{"ratio": 1e-7}, {"ratio": 0.2}, {"outputs": 3.0}, {"step": 5000}, {"adversarial": True}], ids=str
)
def test_silent_where_something_else_is_at_fault_or_nothing(facts: Any) -> None:
    assert judge(1.0, 1.0, **facts) is None


def test_speaks_without_the_evidence_that_it_can_do_without() -> None:
    assert level(judge(1.0, 1.0, ratio=None, outputs=None)) == Severity.SERIOUS


def test_branches_that_wake_up_have_time() -> None:
    wakes, sleeps = ((1e-6, 1.0), (1e-2, 1.0)), ((1e-6, 1.0), (5e-6, 1.0))
    assert level(judge(1.0, 1.0, gradients=wakes)) == Severity.WARNING
    assert level(judge(1.0, 1.0, gradients=wakes, seen=500, step=500)) == Severity.SERIOUS
    assert level(judge(1.0, 1.0, gradients=sleeps)) == Severity.SERIOUS
