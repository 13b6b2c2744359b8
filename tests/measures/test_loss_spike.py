"""loss_spike: robust z-score of each loss against up to 50 before it."""

import math

import numpy as np

from tests.measures.harness import assert_close, compute, run, series


def test_distance_from_the_median_in_usual_deviations() -> None:
    losses = np.random.default_rng(0).normal(size=80)
    losses[60] = 40
    expected = []
    for i, loss in enumerate(losses):
        before = losses[max(0, i - 50) : i]
        middle = np.median(before) if i else 0
        spread = 1.4826 * np.median(abs(before - middle)) if i else 1
        expected.append((loss - middle) / spread if i >= 10 else 0)
    scores = compute("loss_spike", series(losses), run())
    assert_close(scores, expected)
    assert scores.argmax() == 60


def test_nan_is_no_scale() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, size=20)
    losses[5] = math.nan
    scores = compute("loss_spike", series(losses), run())
    assert np.isfinite(scores).all()
    assert abs(scores).max() < 5


def test_a_loss_that_never_changed() -> None:
    assert compute("loss_spike", series([2.0] * 15 + [3.0]), run())[-1] > 1e5
