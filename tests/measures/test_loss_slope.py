"""loss_slope: least-squares slope of the loss over its last 5, 10 and 15 points."""

import numpy as np
import pytest

from tests.measures.harness import assert_close, compute, run, series


@pytest.mark.parametrize("points", [3, 12, 40])
def test_straight_line_through_the_last_points(points: int) -> None:
    losses = np.random.default_rng(0).normal(size=points)
    recent = [losses[-span:] for span in (5, 10, 15)]
    expected = [np.polyfit(range(len(part)), part, 1)[0] for part in recent]
    assert_close(compute("loss_slope", series(losses), run()), expected)


def test_per_step_also_in_long_windows() -> None:
    assert_close(compute("loss_slope", series(0.5 * step for step in range(1500)), run()), [0.5] * 3, rtol=0.2)


def test_too_few_points() -> None:
    assert np.isnan(compute("loss_slope", series([1.0]), run())).all()
