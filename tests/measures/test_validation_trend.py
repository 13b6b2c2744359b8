"""validation_trend: slope of the validation loss over the last five evaluations."""

import math

import numpy as np
import pytest

from tests.measures.harness import assert_close, compute, run, series


@pytest.mark.parametrize("evaluations", [2, 5, 9])
def test_straight_line_through_the_last_five(evaluations: int) -> None:
    losses = np.random.default_rng(0).normal(size=evaluations)
    recent = losses[-5:]
    assert_close(compute("validation_trend", series(losses), run()), np.polyfit(range(len(recent)), recent, 1)[0])


def test_one_evaluation_has_no_trend() -> None:
    assert math.isnan(compute("validation_trend", series([1.0]), run()))
