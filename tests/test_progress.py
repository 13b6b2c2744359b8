"""How the training loss goes."""

from __future__ import annotations

import math
import random

import pytest

from lightning_neurohealth.progress import Progress


def after(*windows: list[float], adversarial: bool = False) -> Progress:
    """Progress after these windows, each point one step."""
    progress, step = Progress(adversarial=adversarial), 0
    for losses in windows:
        progress.add(losses, step, 1)
        step += len(losses)
    return progress


def noise(level: float, size: float, number: int = 40) -> list[float]:
    """Losses around a level, with a deviation of ``size``."""
    numbers = random.Random(0)
    return [numbers.gauss(level, size) for _ in range(number)]


# Memory


def long_run(windows: int = 400, each: int = 100) -> Progress:
    """40,000 steps: from 4 to 1 within the first thousand."""
    return after(*[[1 + 3 * math.exp(-(w * each + i) / 200) for i in range(each)] for w in range(windows)])


def test_memory_is_bounded() -> None:
    progress = long_run()
    assert len(progress.losses) == len(progress.steps) <= 1024
    assert len(progress.recent) == 100


def test_what_is_merged_keeps_its_order_and_its_place() -> None:
    progress = long_run()
    assert progress.steps == sorted(progress.steps)
    assert progress.steps[-1] == pytest.approx(39_999.5, abs=100)
    assert progress.losses == sorted(progress.losses, reverse=True)


def test_the_start_is_remembered_however_long_the_run() -> None:
    progress = long_run()
    assert progress.initial == pytest.approx(4, abs=0.1)
    assert progress.fall == pytest.approx(0.75, abs=0.01)
    assert progress.learning


def test_points_may_stand_for_many_steps() -> None:
    progress = Progress()
    progress.add([3.0, 2.0], 0, 10)
    progress.add([1.0], 20, 10)
    assert progress.steps == [5.0, 15.0, 25.0]


# Fall


def test_nothing_is_known_before_there_is_a_loss() -> None:
    progress = Progress()
    assert math.isnan(progress.initial)
    assert math.isnan(progress.now)
    assert math.isnan(progress.fall)
    assert not progress.improving
    assert not progress.learning


def test_fall_is_the_share_that_is_gone() -> None:
    assert after([2.0] * 10, [0.5] * 10).fall == pytest.approx(0.75)
    assert after([2.0] * 10, [2.0] * 10).fall == 0
    assert after([2.0] * 10, [6.0] * 10).fall == pytest.approx(-2)


def test_one_odd_step_is_neither_start_nor_end() -> None:
    assert after([2.0, 9.0, 2.0, 2.0, 2.0], [1.0] * 9 + [50.0]).fall == pytest.approx(0.5)


def test_only_the_end_of_the_last_window_is_now() -> None:
    assert after([8.0] * 40, [8.0] * 20 + [4.0] * 20).now == 4.0


def test_learning_is_a_fall_by_half() -> None:
    assert not after([2.0] * 5, [1.01] * 5).learning
    assert after([2.0] * 5, [0.99] * 5).learning


def test_or_by_a_fifth_beyond_its_noise() -> None:
    assert after([2.0, 2.1] * 10, [1.5, 1.4] * 20).learning
    assert not after([2.0, 2.1] * 10, [1.7, 1.8] * 20).learning
    assert not after([1.0, 4.0] * 10, [1.0, 3.0] * 20).learning


def test_the_loss_of_a_guess_is_not_learned() -> None:
    progress = after([9.0] * 20, [2.31, 2.29] * 20)
    assert progress.learning
    progress.guesses = (math.log(10),)
    assert not progress.learning
    progress.guesses = (math.log(100),)
    assert progress.learning


def test_risen_is_more_than_twice_and_beyond_noise() -> None:
    assert after([1.0] * 20, [2.1] * 20).risen
    assert not after([1.0] * 20, [1.9] * 20).risen
    assert not after([1.0, 9.0] * 10, [1.0, 1.0, 9.0, 9.0, 9.0] * 4).risen
    assert after([1.0] * 20, [math.nan] * 20).risen
    assert not after([-1.0] * 20, [-0.5] * 20).risen
    assert after([-1.0] * 20, [0.5] * 20).risen
    assert not after([1.0] * 20, [9.0] * 20, adversarial=True).risen


def test_to_come_down_from_where_the_first_steps_threw_it_is_not_learning() -> None:
    progress = after([2.3, 90.0, 4e3, 300.0, 60.0, 20.0], [2.3] * 20)
    assert not progress.learning
    assert progress.fall == pytest.approx(0, abs=1e-9)


def test_nor_is_a_return_to_somewhat_above_a_guess() -> None:
    """A large rate throws a fresh classifier off, and it stays worse than one that guesses."""
    progress = after([2.3, 5.0, 9.0, 8.0, 6.0, 7.0], [3.0, 2.8] * 20)
    assert progress.learning
    progress.guesses = (math.log(10),)
    assert not progress.learning
    progress = after([2.3, 2.2, 2.1, 2.2, 2.3, 60.0, 40.0, 20.0, 9.0, 8.0], [2.8] * 30)
    assert not progress.learning
    fall = progress.since_start(0.05)
    assert fall is not None
    assert not fall.learned


def test_negative_losses_fall_too() -> None:
    assert after([-1.0] * 10, [-1.8] * 10).fall == pytest.approx(0.8)
    assert after([-1.0] * 10, [-0.2] * 10).fall == pytest.approx(-0.8)
    assert after([1.0] * 10, [-1.0] * 10).fall == pytest.approx(2)


def test_a_loss_that_starts_at_zero_says_nothing() -> None:
    assert math.isnan(after([0.0] * 10, [1.0] * 10).fall)


@pytest.mark.parametrize("end", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_no_progress(end: float) -> None:
    progress = after([2.0] * 10, [1.0] * 10, [end] * 10)
    assert math.isnan(progress.fall)
    assert not progress.improving
    assert not progress.learning


def test_adversarial_losses_say_nothing() -> None:
    progress = after([2.0] * 10, [0.1] * 10, adversarial=True)
    assert math.isnan(progress.fall)
    assert not progress.learning


# Improving


def test_improving_is_a_fall_within_the_window_beyond_its_noise() -> None:
    assert after([2.0] * 40, noise(2.0, 0.05, 20) + noise(1.8, 0.05, 20)).improving
    assert not after([2.0] * 40, noise(2.0, 0.05)).improving


def test_noise_alone_is_not_improving() -> None:
    assert not after([2.0] * 40, noise(2.0, 2.0)).improving
    assert not after([2.0] * 40, noise(2.0, 2.0, 20) + noise(1.8, 2.0, 20)).improving


def test_a_fall_of_nothing_is_not_improving() -> None:
    assert not after([2.0] * 40, [2.0] * 20 + [1.95] * 20).improving


def test_a_rise_is_not_improving() -> None:
    assert not after([2.0] * 40, [2.0] * 20 + [3.0] * 20).improving


def test_too_few_points_to_tell() -> None:
    assert not after([2.0] * 40, [2.0, 2.0, 1.0, 1.0, 1.0]).improving
    assert after([2.0] * 40, [2.0, 2.0, 2.0, 1.0, 1.0, 1.0]).improving


def test_nan_in_the_window_is_not_improving() -> None:
    assert not after([2.0] * 40, [2.0] * 20 + [1.0] * 19 + [math.nan]).improving


def test_a_loss_that_falls_fast_below_its_start_is_learning() -> None:
    assert after([2.0] * 40, [1.9] * 20 + [1.6] * 20).learning
    assert not after([2.0] * 40, [4.0] * 20 + [3.0] * 20).learning  # it had risen before


# Since the start


def test_since_the_start_takes_twenty_points() -> None:
    assert after([2.0] * 19).since_start(0.05) is None
    assert after([2.0] * 20).since_start(0.05) is not None
    assert after([2.0] * 40, adversarial=True).since_start(0.05) is None


def test_a_fall_beyond_doubt_is_learning() -> None:
    fall = after(noise(2.0, 0.1), noise(1.0, 0.1)).since_start(0.05)
    assert fall.learned
    assert fall.share == pytest.approx(0.5, abs=0.05)


def test_noise_is_not_learning() -> None:
    fall = after(noise(2.0, 0.5), noise(2.0, 0.5)).since_start(0.05)
    assert not fall.learned
    assert abs(fall.share) < 3 * fall.error
