"""loss_spike: robust z-score of each loss against up to 50 before it."""

import math

import numpy as np

from tests.measures.harness import assert_close, compute, run, series


def z_scores(losses: np.ndarray) -> list[float]:
    """From the finite ones among up to 50 before each; 0 while they are fewer than ten."""
    scores = []
    for i, loss in enumerate(losses):
        before = [x for x in losses[max(0, i - 50) : i] if np.isfinite(x)]
        usual = 1.4826 * np.median(abs(before - np.median(before))) if len(before) >= 10 else math.inf
        scores.append((loss - np.median(before)) / usual if usual < math.inf else 0)
    return scores


def test_distance_from_the_median_in_usual_deviations() -> None:
    losses = np.random.default_rng(0).normal(size=80)
    losses[60] = 40
    scores = compute("loss_spike", series(losses), run())
    assert_close(scores, z_scores(losses))
    assert scores.argmax() == 60


def test_what_is_not_finite_is_no_scale() -> None:
    losses = np.random.default_rng(0).normal(size=80)
    losses[[5, 6, 40, 41, 42]] = math.nan
    losses[43] = math.inf
    assert_close(compute("loss_spike", series(losses), run()), z_scores(losses))


def test_where_most_are_the_same_the_mean_deviation_counts() -> None:
    """A hinge loss that is 0 on most batches."""
    losses = [0.0] * 15 + [0.3, 0.0, 0.2, 0.0, 0.5]
    expected = 0.5 / (1.2533 * np.mean(losses[:-1]))
    assert_close(compute("loss_spike", series(losses), run())[-1], expected)


def test_a_loss_that_never_changed() -> None:
    assert compute("loss_spike", series([2.0] * 15 + [3.0]), run())[-1] > 1e5
