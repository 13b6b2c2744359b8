"""Moments: sums and squares over rows, and deviations within batches."""

import numpy as np
import pytest
import torch

from lightning_neurohealth.statistics.moments import Moments
from tests.measures.harness import Batches, assert_close, layer
from tests.statistics.filled import filled


def test_sums(batches: Batches) -> None:
    statistic = filled(Moments(layer(batches.neurons)), batches)
    assert_close(statistic.sums, batches.rows.sum(0), rtol=1e-12, atol=1e-12)
    assert_close(statistic.squares, (batches.rows**2).sum(0))


def test_deviations_from_the_mean_of_the_own_batch(batches: Batches) -> None:
    statistic = filled(Moments(layer(batches.neurons)), batches)
    deviations = sum(((batch - batch.mean(0)) ** 2).sum(0) for batch in batches.by_batch)
    freedom = sum(len(batch) - 1 for batch in batches.by_batch)
    assert_close(statistic.within, deviations, atol=1e-12)
    assert statistic.freedom == freedom
    if freedom:
        assert_close(statistic.variance_within, deviations / freedom, atol=1e-12)


def test_mean_and_variances(batches: Batches) -> None:
    statistic = filled(Moments(layer(batches.neurons)), batches)
    assert_close(statistic.mean, batches.rows.mean(0), atol=1e-12)
    assert_close(statistic.variance, batches.rows.var(0), rtol=1e-9)
    assert_close(statistic.pooled_variance, batches.rows.var(), rtol=1e-9)


def test_spread_of_single_rows_is_that_over_all_rows() -> None:
    statistic = Moments(layer(2))
    for value in (1.0, 2.0, 6.0):
        statistic.update(torch.tensor([[value, 3 * value]]))
    assert statistic.freedom == 0
    assert_close(statistic.variance_within, np.array([1, 9]) * np.var([1, 2, 6]))


@pytest.mark.parametrize("shift", [0.0, 1e3, -1e6])
def test_a_constant_has_no_variance_below_zero(shift: float) -> None:
    statistic = Moments(layer(3))
    for rows in (7, 1, 13):
        statistic.update(torch.full((rows, 3), 0.1) + shift)
    assert (statistic.variance >= 0).all()
    assert (statistic.within >= 0).all()
    assert statistic.variance.max() <= 1e-12 * (1 + shift**2)


def test_deviations_of_whole_batches_add_over_ranks(batches: Batches) -> None:
    together, ranks = Moments(layer(batches.neurons)), [Moments(layer(batches.neurons)) for _ in range(2)]
    for i, x in enumerate(batches.tensors):
        filled(together, Batches((x,), batches.axis))
        filled(ranks[i % 2], Batches((x,), batches.axis))
    assert_close(ranks[0].within + ranks[1].within, together.within)
    assert ranks[0].freedom + ranks[1].freedom == together.freedom
