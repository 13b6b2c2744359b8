"""Steps whose loss stands out: in networks, and at the edges of the rule."""

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
from lightning_neurohealth.rules.loss_spike import LossSpike
from tests import networks
from tests.rules import by_hand, sick_runs, tempting_runs

HEALTHY = [*networks.HEALTHY, *tempting_runs.HEALTHY]


@pytest.mark.parametrize(
    ("network", "step"), [(sick_runs.one_bad_batch, 130), (sick_runs.bad_batch_for_a_transformer, 170)]
)
def test_finds_the_step(network: Any, step: int) -> None:
    (finding,) = [f for report in network().reports for f in report.findings if f.condition == "loss_spike"]
    assert finding.severity == Severity.WARNING
    assert f"at step {step}" in finding.message
    assert "batch is unlike the others" in finding.cause
    assert f"step {step}" in finding.remedy


def test_names_the_batch_of_the_epoch() -> None:
    """An epoch of 1,797 digits has 29 batches of 64."""
    spikes = [f for r in sick_runs.bad_batch_for_a_transformer().reports for f in r.of(None) if "leapt" in f.message]
    assert f"batch {170 % 29} of epoch {170 // 29}" in spikes[0].message


@pytest.mark.parametrize("network", HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_is_none(network: Any) -> None:
    assert [f for report in network().reports for f in report.findings if f.condition == "loss_spike"] == []


# The rule alone

Draw = Callable[[random.Random], float]


def noisy(number: int, level: float = 1.0, spread: float = 0.1, seed: int = 0) -> list[float]:
    numbers = random.Random(seed)
    return [numbers.gauss(level, spread) for _ in range(number)]


def judge(losses: list[float], size: int = 100, adversarial: bool = False, **facts: Any) -> Verdict | None:
    """What is said of the last ``size`` losses of a run that began at 2; those before were other windows."""
    progress = Progress(adversarial=adversarial)
    progress.add([2.0] * 5 + losses, 0, 1)
    cuts = range(0, len(losses) - size, size)
    verdicts = list(
        LossSpike().judge(
            window=by_hand.window(progress=progress, seen=len(losses), steps=size, **facts),
            past=[by_hand.past({"train_loss": torch.tensor(losses[i : i + size])}) for i in cuts],
            train_loss=torch.tensor(losses[-size:]),
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


@pytest.mark.parametrize(("height", "speaks"), [(0.6, False), (1.4, True), (40.0, True)])
def test_ten_usual_deviations_above_those_before(height: float, speaks: bool) -> None:
    losses = noisy(200)
    losses[170] = 1.0 + height
    assert bool(judge(losses)) == speaks


def test_says_when_how_high_and_what_before() -> None:
    losses = noisy(300)
    losses[250] = 7.0
    verdict = judge(losses)
    assert "leapt to 7 at step 250," in verdict.message
    assert verdict.value == pytest.approx(60, rel=0.4)
    assert judge(losses[:240]) is None
    assert judge([*losses, *noisy(100)]) is None  # a spike is of its own window


@pytest.mark.parametrize(("batches", "place"), [(1, "batch 20 of epoch 3"), (4, "batches 80 to 83 of epoch 3")])
def test_counts_batches_in_their_epoch(batches: int, place: str) -> None:
    losses = noisy(200)
    losses[170] = 7.0
    assert place in judge(losses, trained=4.0, batches=batches).message


def test_a_point_may_stand_for_several_steps() -> None:
    losses = noisy(100)
    losses[50] = 7.0
    progress = by_hand.losses(*losses)
    window = by_hand.window(progress=progress, seen=1000, steps=200)
    (verdict,) = LossSpike().judge(window=window, past=[], train_loss=torch.tensor(losses))
    assert "at steps 900 to 901" in verdict.message


def test_what_stays_up_is_not_the_fault_of_one_batch() -> None:
    losses = noisy(200)
    losses[170:176] = [7.0, 6.5, 6.0, 5.0, 4.0, 3.0]
    assert "came back after 6 steps" in judge(losses).cause
    losses[176:] = [5.0] * 24
    assert "has not come back" in judge(losses).cause


@pytest.mark.parametrize(
    "draw",
    [
        lambda r: r.gauss(1.0, 0.2),
        lambda r: r.expovariate(1.0),
        lambda r: r.lognormvariate(0.0, 1.5),
        lambda r: r.paretovariate(2.0),
        lambda r: 5.0 if r.random() < 0.02 else r.gauss(1.0, 0.1),
        lambda r: 5.0 if r.random() < 0.02 else 0.0,
    ],
    ids=["gauss", "exponential", "lognormal", "pareto", "one in fifty", "hinge"],
)
def test_silent_where_tall_losses_are_usual(draw: Draw) -> None:
    numbers = random.Random(0)
    losses = [draw(numbers) for _ in range(3000)]
    assert sum(judge(losses[i : i + 500]) is not None for i in range(0, 3000, 500)) == 0


@pytest.mark.parametrize(("height", "every", "speaks"), [(7.0, 30, True), (5.5, 30, False), (300.0, 9, False)], ids=str)
def test_batches_of_another_kind_stand_out_however_often_they_come(height: float, every: int, speaks: bool) -> None:
    losses = [height if i % every == every - 1 else loss for i, loss in enumerate(noisy(300))]
    verdict = judge(losses)
    assert (verdict is not None) == speaks
    assert verdict is None or "4 such leaps in this window; as far it leapt at 10 of the last 300" in verdict.message


@pytest.mark.parametrize("tail", [0.05, 0.15])
def test_losses_with_a_tail_of_their_own_explain_tall_ones(tail: float) -> None:
    numbers = random.Random(0)
    losses = [3.0 if numbers.random() < tail else loss for loss in noisy(300)]
    losses[29::30] = [7.0] * 10
    assert (judge(losses) is not None) == (tail < 0.1)


def test_next_to_nothing_may_leap_to_little() -> None:
    losses = noisy(200, 1e-3, 1e-4)
    losses[170] = 0.05
    assert judge(losses) is None


def test_a_negative_loss_may_spike() -> None:
    losses = noisy(200, -3.0)
    losses[170] = 2.0
    assert judge(losses) is not None


def test_silent_without_numbers_or_where_two_losses_share_the_run() -> None:
    losses = noisy(200)
    losses[170] = 7.0
    assert judge(losses, adversarial=True) is None
    assert judge([math.nan] * 200) is None
    losses[165:175] = [math.nan] * 5 + [math.inf] * 5
    assert judge(losses) is None
    assert judge([1.0, 1.1, 9.0]) is None
