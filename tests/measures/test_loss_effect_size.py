"""loss_effect_size: Cohen's d between the halves of the last 5, 10 and 15 points."""

import math

import numpy as np
import pytest

from tests.measures.harness import assert_close, compute, run, series


def cohens_d(points: np.ndarray) -> float:
    half = math.ceil(len(points) / 2)
    early, late = points[:half], points[len(points) - half :]
    return abs(early.mean() - late.mean()) / math.sqrt((early.var(ddof=1) + late.var(ddof=1)) / 2)


@pytest.mark.parametrize("points", [3, 12, 40])
def test_of_the_last_points(points: int) -> None:
    losses = np.random.default_rng(0).normal(size=points)
    assert_close(compute("loss_effect_size", series(losses), run()), [cohens_d(losses[-n:]) for n in (5, 10, 15)])


def test_flat_and_too_short() -> None:
    assert compute("loss_effect_size", series([0.1] * 20), run()).tolist() == [0, 0, 0]
    assert np.isnan(compute("loss_effect_size", series([1.0, 2.0]), run())).all()
