"""Sampling keeps within a share of the time; the clock is the test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor, NeuronHealth, Report, budget
from lightning_neurohealth.budget import Budget
from tests.ranks import Every, train
from tests.training import MLP, Learner, make_data, make_health, make_trainer


class Clock:
    """Stands still unless told to go on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(budget, "clock", clock)
    return clock


def spend(own: Budget, clock: Clock, measured: bool, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        own.begin()
        clock.now += seconds
        own.end(measured)


def window(own: Budget, clock: Clock, bare: float, more: float, closing: float = 0.0, steps: int = 100) -> None:
    """A window of steps that last ``bare`` seconds, or ``more`` seconds longer if they are measured."""
    for step in range(steps):
        measured = step % own.every == 0
        spend(own, clock, measured, bare + more * measured)
    own.adapt(own.sums())
    with own.closing(steps):
        clock.now += closing


# The cadence


@pytest.mark.parametrize(
    ("limit", "least", "more", "every"),
    [
        (0.05, 1, 0.5, 10),
        (0.05, 1, 0.02, 2),
        (0.05, 20, 0.5, 20),
        (0.01, 1, 0.5, 50),
        (0.5, 1, 4.0, 8),
        (0.05, 3, 0.0, 3),
    ],
)
def test_cadence_that_a_budget_allows(limit: float, least: int, more: float, every: int, clock: Clock) -> None:
    own = Budget(limit, least)
    spend(own, clock, True, 90.0)  # the first of either kind is not like the others
    spend(own, clock, False, 90.0)
    before = own.every
    window(own, clock, bare=1.0, more=more)
    assert own.every == every
    assert own.every >= before == max(least, 2)
    assert own.share == pytest.approx(more / before)
    window(own, clock, bare=1.0, more=more)
    assert own.share <= limit + 1e-9


def test_closing_windows_counts(clock: Clock) -> None:
    own = Budget(0.1, 2)
    spend(own, clock, True, 1.0)
    spend(own, clock, False, 1.0)
    window(own, clock, bare=1.0, more=0.4, closing=5.0, steps=100)  # 5 % of the time
    assert own.every == 4
    for _ in range(3):
        window(own, clock, bare=1.0, more=0.4, closing=5.0, steps=100)
    assert own.every == 8
    assert own.share == pytest.approx(0.1, rel=0.1)


def test_cadence_comes_down_again(clock: Clock) -> None:
    own = Budget(0.05, 2)
    spend(own, clock, True, 1.0)
    spend(own, clock, False, 1.0)
    window(own, clock, bare=1.0, more=1.0)
    assert own.every == 20
    for _ in range(12):
        window(own, clock, bare=1.0, more=0.0)
    assert own.every == 2


def test_nothing_is_timed_without_a_limit(clock: Clock) -> None:
    own = Budget(None, 1)
    window(own, clock, bare=1.0, more=5.0)
    assert (own.every, own.share, own.sums()) == (1, None, [])


def test_nothing_is_chosen_before_both_kinds_were_seen(clock: Clock) -> None:
    own = Budget(0.05, 50)
    window(own, clock, bare=1.0, more=5.0, steps=40)
    assert (own.every, own.share) == (50, None)


def test_a_failed_step_is_not_timed(clock: Clock) -> None:
    own = Budget(0.05, 2)
    own.begin()
    clock.now += 1000.0
    own.forget()
    spend(own, clock, True, 1.0, times=2)
    assert own.sums()[:2] == [1.0, 1.0]


# In a loop and in a trainer


class Slow(MLP):
    """A step takes a second, a measured one half a second more."""

    def __init__(self, clock: Clock, measuring: Callable[[], bool]) -> None:
        super().__init__()
        self.clock, self.measuring = clock, measuring

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += 1.0 + 0.5 * self.measuring()
        return super().forward(x)


def test_a_loop_written_by_hand(clock: Clock) -> None:
    net = Slow(clock, lambda: monitor.measuring)
    monitor = Monitor(net, every_n_steps=1, window=20, max_overhead=0.05)
    for _ in range(60):
        with monitor:
            net(torch.ones(2, 4)).sum().backward()
    assert [r.every_n_steps for r in monitor.reports] == [2, 10, 10]
    assert [r.measured for r in monitor.reports] == [10, 2, 2]
    assert [r.overhead for r in monitor.reports] == pytest.approx([0.25, 0.05, 0.05])
    assert "10 of 20 steps measured, 25.0% more time" in str(monitor.reports[0])
    assert monitor.reports[1].to_dict()["every_n_steps"] == 10
    monitor.remove()


def test_a_trainer(clock: Clock) -> None:
    health = make_health(every_n_steps=1, max_overhead=0.1, window=20)
    net = Slow(clock, lambda: health._monitor.measuring)
    trainer = make_trainer(health, max_epochs=3, accumulate_grad_batches=2)
    trainer.fit(Learner(net), make_data(rows=320))
    # both batches of a step take their time
    assert [r.every_n_steps for r in health.reports] == [2, 5, 5]
    assert [r.overhead for r in health.reports] == pytest.approx([0.25, 0.1, 0.1])


def test_without_a_limit_the_report_says_nothing_of_time() -> None:
    monitor = Monitor(MLP(), every_n_steps=3, window=4)
    for _ in range(4):
        with monitor:
            monitor.taps.model(torch.ones(2, 4)).sum().backward()
    report: Report = monitor.report
    assert (report.every_n_steps, report.overhead, report.measured) == (3, None, 2)
    assert "overhead" not in report.to_dict()
    monitor.remove()


class SlowOnRank1(Every):
    """Only one rank is held up by measuring."""

    def __init__(self) -> None:
        super().__init__(MLP())
        self.clock = budget.clock = Clock()  # in a child, which ends soon

    def on_fit_start(self) -> None:
        budget.clock = self.clock

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        health = next(c for c in self.trainer.callbacks if isinstance(c, NeuronHealth))
        self.clock.now += 1.0 + 0.8 * (health._monitor.measuring and self.trainer.global_rank == 1)
        return super().training_step(batch, batch_idx)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_all_ranks_choose_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "clock", budget.clock)  # is put back behind us
    first, second = train(SlowOnRank1(), tmp_path, max_epochs=9, window=12, every_n_steps=1, max_overhead=0.1)
    assert first["reports"] == second["reports"]
    assert [r["every_n_steps"] for r in first["reports"]] == [2, 4, 4]  # 0.4 more on average
    assert [r["overhead"] for r in first["reports"]] == pytest.approx([0.2, 0.1, 0.1])
    assert first["calls"]["all_gather_object"] == 0


# Settings


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, float("nan"), True, "2%", [0.1]])
def test_shares_that_make_no_sense(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_overhead"):
        NeuronHealth(max_overhead=value)
    with pytest.raises((TypeError, ValueError), match="max_overhead"):
        Monitor(nn.Linear(2, 2), max_overhead=value)
