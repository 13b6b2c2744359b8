"""generalization_gap: last evaluation less the mean training loss of the window."""

import math

from tests.measures.harness import Batches, assert_close, compute, run, series


def given(validation: list[float], train: list[float]) -> dict[str, Batches]:
    return {"validation_loss": series(validation), "loss": series(train)}


def test_last_evaluation_against_the_mean_of_the_window() -> None:
    assert_close(compute("generalization_gap", given([9.0, 5.0], [4.0, 3.0, 2.0, 1.0]), run()), 2.5)


def test_without_an_evaluation() -> None:
    assert math.isnan(compute("generalization_gap", given([], [1.0]), run()))
