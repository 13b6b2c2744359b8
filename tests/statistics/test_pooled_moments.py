"""PooledMoments: mean and variance over all elements, whatever their axes."""

import torch

from lightning_neurohealth.statistics.pooled_moments import PooledMoments
from tests.measures.harness import Batches, assert_close, layer
from tests.statistics.filled import filled


def test_over_all_elements(batches: Batches) -> None:
    statistic = filled(PooledMoments(layer(batches.neurons)), batches)
    assert statistic.elements == batches.rows.size
    assert_close(statistic.mean, batches.rows.mean(), atol=1e-12)
    assert_close(statistic.variance, batches.rows.var(), rtol=1e-9)


def test_other_numbers_than_neurons() -> None:
    statistic = PooledMoments(layer(5))
    statistic.update(torch.tensor([[[0.25, 0.75]]]))
    statistic.update(torch.full((1, 1, 3), 0.1))
    assert_close(statistic.mean, 1.3 / 5, rtol=1e-7)


def test_a_constant_has_no_variance_below_zero() -> None:
    statistic = PooledMoments(layer(1))
    statistic.update(torch.full((1, 1, 3), 0.1))
    assert 0 <= statistic.variance < 1e-16
