"""progress: slope of the logarithm of the loss per step."""

import math

import numpy as np

from tests.measures.harness import assert_close, compute, run, series


def test_share_by_which_the_loss_falls_a_step() -> None:
    assert_close(compute("progress", series([8 * 0.99**step for step in range(40)]), run()), math.log(0.99))


def test_straight_line_through_the_logarithms() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, size=30)
    assert_close(compute("progress", series(losses), run()), np.polyfit(range(30), np.log(losses), 1)[0])


def test_losses_below_zero() -> None:
    losses = np.random.default_rng(0).normal(size=30)
    expected = np.polyfit(range(30), losses, 1)[0] / abs(losses).mean()
    assert_close(compute("progress", series(losses), run()), expected)


def test_per_step_also_in_long_windows() -> None:
    losses = series([2 * 0.999**step for step in range(1500)])
    assert_close(compute("progress", losses, run()), math.log(0.999), rtol=1e-3)


def test_too_few_points() -> None:
    assert math.isnan(compute("progress", series([1.0]), run()))
