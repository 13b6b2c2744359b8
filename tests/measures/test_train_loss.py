"""train_loss: the training loss, step by step."""

import math

import numpy as np

from tests.measures.harness import assert_close, compute, run, series


def test_every_step_in_its_order() -> None:
    values = [3.0, -1.0, 2.5, 0.0, 1e9]
    assert compute("train_loss", series(values), run()).tolist() == values


def test_nan_stays_where_it_was() -> None:
    assert_close(compute("train_loss", series([1.0, math.nan, 3.0]), run()), [1, math.nan, 3])


def test_long_windows_give_means_of_equal_stretches() -> None:
    values = np.random.default_rng(0).normal(size=1024)
    assert_close(compute("train_loss", series(values), run()), values.reshape(-1, 4).mean(1))
