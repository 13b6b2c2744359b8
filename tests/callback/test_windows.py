"""Which steps are measured, and when a window closes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.window import Window
from tests.callback.numbers import rows
from tests.training import MLP, Endless, Learner, fit, make_data


@pytest.mark.parametrize(("every_n_steps", "measured"), [(1, [12, 12]), (3, [4, 4]), (5, [3, 2]), (10, [2, 1])])
def test_one_step_in_n_is_measured(every_n_steps: int, measured: list[int]) -> None:
    health = fit(MLP(), make_data(rows=24, batch=2), every_n_steps=every_n_steps, max_epochs=2)
    assert [r.measured for r in health.reports] == measured
    assert [r.steps for r in health.reports] == [12, 12]
    assert [rows(r) for r in health.reports] == [2 * n for n in measured]


def test_window_of_an_epoch() -> None:
    health = fit(MLP(), max_epochs=3)
    assert [(r.index, r.epoch, r.step, r.steps) for r in health.reports] == [(0, 0, 4, 4), (1, 1, 8, 4), (2, 2, 12, 4)]
    assert [r.last for r in health.reports] == [False, False, True]


def test_window_of_n_steps_goes_over_epochs_and_ends_with_a_shorter_one() -> None:
    health = fit(MLP(), window=3, max_epochs=2)
    assert [(r.index, r.epoch, r.step, r.steps) for r in health.reports] == [(0, 0, 3, 3), (1, 1, 6, 3), (2, 1, 8, 2)]
    assert [rows(r) for r in health.reports] == [24, 24, 16]
    assert [r.last for r in health.reports] == [False, False, True]


def test_window_that_ends_with_the_fit_is_the_last() -> None:
    health = fit(MLP(), window=4, max_epochs=2)
    assert [r.steps for r in health.reports] == [4, 4]
    assert [r.last for r in health.reports] == [False, True]


def test_window_longer_than_the_fit() -> None:
    health = fit(MLP(), window=100)
    assert [(r.steps, r.last) for r in health.reports] == [(4, True)]


def test_window_shorter_than_the_sampling_waits_for_a_measured_step() -> None:
    health = fit(MLP(), make_data(rows=24, batch=2), window=2, every_n_steps=6)
    assert [(r.steps, r.measured) for r in health.reports] == [(2, 1), (5, 1)]


def test_max_steps_in_the_middle_of_an_epoch() -> None:
    health = fit(MLP(), max_epochs=-1, max_steps=3)
    assert [(r.steps, r.measured, r.step, r.last) for r in health.reports] == [(3, 3, 3, True)]


def test_max_steps_in_the_middle_of_a_later_epoch() -> None:
    health = fit(MLP(), max_epochs=-1, max_steps=6)
    assert [(r.steps, r.step, r.last) for r in health.reports] == [(4, 4, False), (2, 6, True)]


def test_a_stop_that_has_to_wait_is_not_the_last_window() -> None:
    model = Learner(MLP(), at_step=lambda model, step: setattr(model.trainer, "should_stop", True))
    health = fit(model, max_epochs=5, min_epochs=2)
    assert [(r.epoch, r.last) for r in health.reports] == [(0, False), (1, True)]


def test_limited_batches() -> None:
    health = fit(MLP(), limit_train_batches=2, max_epochs=2)
    assert [r.steps for r in health.reports] == [2, 2]
    assert [rows(r) for r in health.reports] == [16, 16]


@pytest.mark.parametrize("window", ["epoch", 3])
def test_dataset_without_a_length(window: Any) -> None:
    data = torch.utils.data.DataLoader(Endless(make_data()), batch_size=None)
    health = fit(MLP(), data, window=window)
    assert sum(rows(r) for r in health.reports) == 32
    assert health.report.last


@pytest.mark.parametrize(("every_n_steps", "seen"), [(1, 40), (2, 24)])
def test_all_batches_of_an_accumulated_step_are_measured(every_n_steps: int, seen: int) -> None:
    health = fit(MLP(), make_data(rows=40), every_n_steps=every_n_steps, accumulate_grad_batches=2)
    assert health.report.steps == health.report.step == 3  # two of two batches, one of one
    assert rows(health.report) == seen


def test_window_counts_optimizer_steps() -> None:
    health = fit(MLP(), make_data(rows=64), window=2, accumulate_grad_batches=2)
    assert [(r.step, r.steps, rows(r)) for r in health.reports] == [(2, 2, 32), (4, 2, 32)]


@dataclass(frozen=True, kw_only=True)
class Notes(RunRule):
    """Finds nothing and keeps the windows that it was shown."""

    grace: int = 0
    seen: tuple[list[Window]] = ([],)

    def judge(self, window: Window, train_loss: Tensor) -> Iterable[Verdict]:
        self.seen[0].append(window)
        return []


@pytest.mark.parametrize(("window", "epochs"), [("epoch", [1, 1]), (2, [0.5] * 4)])
def test_rules_know_how_much_of_an_epoch_was_measured(window: Any, epochs: list[float]) -> None:
    notes = Notes(seen=([],))
    fit(MLP(), rules=[notes], window=window, max_epochs=2)
    assert [w.epochs for w in notes.seen[0]] == epochs
    assert notes.seen[0][-1].trained == 2


def test_rules_know_the_learning_rate_and_the_loss() -> None:
    notes = Notes(seen=([],))
    model = Learner(MLP(), lr=0.25)
    fit(model, rules=[notes])
    (window,) = notes.seen[0]
    assert window.learning_rate == 0.25
    assert window.progress.recent == pytest.approx(model.losses)
