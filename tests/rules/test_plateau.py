"""A loss that has not fallen since the start: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.plateau import Plateau
from tests import networks
from tests.rules import by_hand, sick_runs, tempting_runs

# network, and what its cause speaks of
SICK = [
    (sick_runs.adam_that_stands_still, "of their size, where 0.001 is common; the learning rate is 1e-09"),
    (sick_runs.convolutions_that_stand_still, "of their size"),
    (sick_runs.transformer_that_stands_still, "of their size"),
    (sick_runs.rate_of_nought, "of their size"),
    (sick_runs.dead_from_the_start, "all neurons of net.0 are silent"),
    (sick_runs.labels_drawn_by_lot, "gradients are noise"),
    (sick_runs.noise_for_a_conv_net, "gradients are noise"),
    (sick_runs.shuffled_labels_on_frozen_features, "gradients are noise"),
    (sick_runs.targets_of_noise, "gradients are noise"),
]


@pytest.mark.parametrize(("network", "cause"), SICK, ids=[network.__name__ for network, _ in SICK])
def test_finds_them(network: Any, cause: str) -> None:
    (finding,) = network().found("plateau")
    assert finding.severity == Severity.SERIOUS
    assert cause in finding.cause


@pytest.mark.parametrize("network", [*networks.HEALTHY, *tempting_runs.HEALTHY], ids=lambda network: network.__name__)
def test_silent_where_there_is_none(network: Any) -> None:
    assert [f for report in network().reports for f in report.findings if f.condition == "plateau"] == []


# The rule alone


def noise(level: float, size: float, number: int, seed: int = 0) -> list[float]:
    numbers = random.Random(seed)
    return [numbers.gauss(level, size) for _ in range(number)]


WEIGHTS = ("fc1.weight", "fc2.weight")


def judge(
    losses: Any = None,
    *,
    ratio: float | None = 1e-3,
    snr: float | None = 1.0,
    norm: float | None = 1.0,
    outputs: float | None = 0.1,
    zeros: float | None = 0.5,
    spread: float | None = None,
    size: float | None = None,
    ends: float | None = None,
    gradients: Any = None,
    before: Any = (),
    adversarial: bool = False,
    **facts: Any,
) -> Verdict | None:
    """Of a hidden layer and an output; ``spread`` is that of the norms of neurons at the start, ``size`` theirs now."""
    progress = by_hand.losses(*(losses or noise(2.3, 0.05, 200)), adversarial=adversarial)

    def both(value: float | None) -> Any:
        return None if value is None else by_hand.numbers(**{"fc1.weight": value, "fc2.weight": value})

    hidden, output = by_hand.layer(name="fc1", fan_in=50), by_hand.linear(10, name="fc2", output=True)
    if ends is not None:
        output = by_hand.layer(10, nn.Sigmoid(), name="fc2", output=True)
    norms = {} if spread is None else {"fc1": 1 + spread * torch.randn(100, generator=torch.Generator().manual_seed(0))}
    then, late = gradients or ((1.0, 1.0), (1.0, 1.0))
    verdicts = list(
        Plateau().judge(
            window=by_hand.window(**{"seen": 200, "step": 200, "progress": progress, **facts}),
            past=list(before),
            layers={"fc1": hidden, "fc2": output},
            parameters=by_hand.parameters("fc1", "fc2"),
            initial={"weight_norm": norms, "gradient_rms": by_hand.numbers(**dict(zip(WEIGHTS, then, strict=True)))},
            train_loss=torch.tensor(progress.losses),
            update_ratio=both(ratio),
            gradient_snr=both(snr),
            gradient_norm=both(norm),
            activation_std=None if outputs is None else {"fc1": torch.ones(100), "fc2": torch.full((10,), outputs)},
            saturation_rate={} if ends is None else {"fc2": torch.full((10,), ends)},
            zero_rate=None if zeros is None else {"fc1": torch.full((100,), zeros)},
            weight_norm=None if size is None else {"fc1": torch.full((100,), size)},
            gradient_rms=by_hand.numbers(**dict(zip(WEIGHTS, late, strict=True))),
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def level(verdict: Verdict | None) -> Severity | None:
    return verdict and verdict.severity


def test_a_flat_loss_is_serious() -> None:
    assert level(judge()) == Severity.SERIOUS
    assert judge().threshold == 0.05


@pytest.mark.parametrize(("seen", "speaks"), [(99, False), (100, True)])
def test_grace(seen: int, speaks: bool) -> None:
    assert (judge(seen=seen, step=seen) is not None) == speaks


@pytest.mark.parametrize(
    "losses",
    [
        noise(2.3, 0.05, 100) + noise(2.1, 0.05, 100),  # has fallen
        [2.3 - 0.001 * i for i in range(200)],  # falls
        noise(2.3, 0.05, 100) + noise(3.5, 0.05, 100),  # has risen: that is for others
        noise(2.3, 2.0, 200),  # too noisy to tell
        [0.0] * 200,
        [math.nan] * 200,
        [2.3] * 15,
        noise(0.0, 0.05, 200),  # around 0, as policy gradients are
    ],
    ids=["fallen", "falling", "risen", "noisy", "zero", "nan", "few", "around zero"],
)
def test_silent_where_the_loss_does_not_say_so(losses: list[float]) -> None:
    assert judge(losses) is None


def test_negative_and_large_losses_are_judged_alike() -> None:
    assert level(judge(noise(-2.3, 0.05, 200))) == Severity.SERIOUS
    assert level(judge(noise(2.3e9, 5e7, 200))) == Severity.SERIOUS


def test_adversarial_losses_stay_flat() -> None:
    assert judge(adversarial=True) is None


def test_a_network_that_tells_rows_apart_may_be_at_its_floor() -> None:
    assert judge(outputs=2.0) is None
    assert level(judge(outputs=2.0, ratio=1e-9)) == Severity.SERIOUS


@pytest.mark.parametrize("ratio", [1e-3, 1e-9])
def test_so_may_one_that_began_with_trained_weights(ratio: float) -> None:
    assert judge(spread=0.5, ratio=ratio) is None
    assert level(judge(spread=0.1, ratio=ratio)) == Severity.SERIOUS  # 1 / √(2 · 50), as drawn
    assert judge(step=5200, ratio=ratio) is None  # resumed at step 5000


def test_silent_during_warm_up() -> None:
    earlier = by_hand.past({}, seen=100, step=100, learning_rate=1e-6)
    assert judge(before=[earlier], learning_rate=2e-6) is None
    assert judge(before=[earlier], learning_rate=1e-6) is not None


@pytest.mark.parametrize(
    ("facts", "severity", "cause"),
    [
        ({"ratio": 1e-8}, Severity.SERIOUS, "1e-08 of their size"),
        ({"ratio": 0.5}, Severity.WARNING, "thrown about"),
        ({"zeros": 1.0}, Severity.SERIOUS, "all neurons of fc1 are silent"),
        ({"norm": 0.0}, Severity.SERIOUS, "exactly 0"),
        ({"snr": 1.2}, Severity.SERIOUS, "gradients are noise"),
        ({"snr": 9.0}, Severity.WARNING, "gradients agree"),
        ({"snr": 9.0, "outputs": 1e-3}, Severity.SERIOUS, "constant prediction"),
        ({"snr": math.nan}, Severity.WARNING, "the weights move"),
        ({"snr": math.nan, "seen": 400, "step": 400}, Severity.SERIOUS, "the weights move"),
    ],
)
def test_the_cause_is_what_the_evidence_says(facts: Any, severity: Severity, cause: str) -> None:
    verdict = judge(**facts)
    assert verdict.severity == severity
    assert cause in verdict.cause


def test_a_slow_fall_is_a_warning() -> None:
    verdict = judge([2.3 - 0.0003 * i for i in range(200)], snr=9.0, ratio=1e-4)
    assert level(verdict) == Severity.WARNING
    assert "slowly" in verdict.cause
    verdict = judge(noise(2.3, 0.01, 100) + noise(2.26, 0.01, 100, seed=1), snr=9.0)
    assert level(verdict) == Severity.WARNING


def test_what_has_got_going_late_is_a_warning() -> None:
    """A product of two factors that begin small: flat first, and then faster and faster."""
    late = [x - 0.02 * (i / 200) ** 3 for i, x in enumerate(noise(2.3, 0.005, 200))]
    assert level(judge(late, snr=1.0)) == Severity.WARNING
    assert level(judge(noise(2.3, 0.005, 200), snr=1.0)) == Severity.SERIOUS


def test_tells_outputs_at_the_ends_of_their_range() -> None:
    assert "an end of sigmoid" in judge(snr=30.0, ends=0.9).cause
    assert level(judge(snr=30.0, ends=0.9)) == Severity.SERIOUS
    assert level(judge(snr=30.0, ends=0.7)) == Severity.WARNING


def test_speaks_without_the_evidence_that_it_can_do_without() -> None:
    verdict = judge(ratio=None, snr=None, norm=None, outputs=None, zeros=None, seen=400, step=400)
    assert level(verdict) == Severity.SERIOUS


@pytest.mark.parametrize(("size", "outputs", "speaks"), [(0.05, 1e-3, True), (0.2, 1e-3, False), (0.05, 0.1, False)])
def test_tells_weights_that_their_decay_has_shrunk(size: float, outputs: float, speaks: bool) -> None:
    slowly = [2.3 - 0.0003 * i for i in range(200)]  # down to what a constant prediction gives
    verdict = judge(slowly, spread=0.0, size=size, outputs=outputs, snr=5.0)
    assert ("weight_decay" in verdict.remedy) == speaks
    assert level(verdict) == (Severity.SERIOUS if speaks else Severity.WARNING)


@pytest.mark.parametrize(
    ("then", "late", "seen", "severity"),
    [
        ((1e-6, 1.0), (1e-2, 1.0), 499, Severity.WARNING),
        ((0.0, 1.0), (1e-2, 1.0), 499, Severity.SERIOUS),
        ((1e-6, 1.0), (1e-2, 1.0), 500, Severity.SERIOUS),
        ((1e-6, 1.0), (5e-6, 1.0), 499, Severity.SERIOUS),
        ((1e-3, 1.0), (1e-1, 1.0), 499, Severity.SERIOUS),
    ],
    ids=["from a millionth", "from 0", "too long", "asleep", "not so small"],
)
def test_branches_that_wake_up_have_time(then: Any, late: Any, seen: int, severity: Severity) -> None:
    assert level(judge(gradients=(then, late), seen=seen, step=seen)) == severity
