"""Series: one number a step in bounded memory."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from lightning_neurohealth.statistics.series import CAPACITY, Series
from tests.measures.harness import assert_close, run


def after(values: Iterable[float | None]) -> Series:
    """A series after one step for each value, ``None`` where the step had none."""
    series = Series(run())
    for value in values:
        if value is not None:
            series.update(torch.tensor([[value]], dtype=torch.float64))
        series.advance()
    return series


def test_numbers_in_the_order_of_steps() -> None:
    assert after([3.0, None, -1.0, 0.0]).points.tolist() == [3, -1, 0]
    assert after([]).points.tolist() == []


def test_several_numbers_of_one_step_are_averaged() -> None:
    series = after([5.0])
    for value in (1.0, 2.0, 6.0):
        series.update(torch.tensor([[value]], dtype=torch.float64))
    assert series.points.tolist() == [5, 3]


@pytest.mark.parametrize("steps", [1, 511, 512, 513, 1023, 1024, 3000])
def test_any_length_fits(steps: int) -> None:
    values = np.random.default_rng(0).normal(size=steps)
    series = after(values.tolist())
    stride = 1
    while steps >= CAPACITY * stride:
        stride *= 2
    groups = [values[start : start + stride].mean() for start in range(0, steps, stride)]
    assert series.stride == stride
    assert_close(series.points, groups)
    assert len(groups) <= CAPACITY


def test_gaps_do_not_count_when_neighbours_are_merged() -> None:
    values = [None if step % 4 else float(step) for step in range(CAPACITY)]
    assert after(values).points.tolist() == [float(step) for step in range(0, CAPACITY, 4)]


def test_nan_stays_in_its_point() -> None:
    values = [1.0] * CAPACITY
    values[10] = math.nan
    assert [i for i, point in enumerate(after(values).points.tolist()) if math.isnan(point)] == [5]


@pytest.mark.parametrize("steps", [5, 700])
def test_ranks_are_averaged_step_by_step(steps: int) -> None:
    generator = np.random.default_rng(0)
    here, there = generator.normal(size=(2, steps))
    ours, theirs = after(here.tolist()), after(there.tolist())
    for name in ("rows", "sums", "counts"):
        getattr(ours, name).add_(getattr(theirs, name))
    assert_close(ours.points, after(((here + there) / 2).tolist()).points)
