"""Magnitude: the sum of absolute values; RecentMagnitude: one that fades."""

import torch

from lightning_neurohealth.statistics.magnitude import Magnitude, RecentMagnitude
from tests.measures.harness import Batches, assert_close, layer
from tests.statistics.filled import filled


def test_sum_of_absolute_values(batches: Batches) -> None:
    statistic = filled(Magnitude(layer(batches.neurons)), batches)
    assert_close(statistic.sums, [sum(map(abs, neuron)) for neuron in batches.rows.T])
    assert statistic.rows == len(batches.rows)


def test_small_values_beside_large_ones_are_kept() -> None:
    statistic = Magnitude(layer(1))
    statistic.update(torch.tensor([[1e8], [1e-4], [-1e-4]]))
    assert_close(statistic.sums, [1e8 + 2e-4], rtol=1e-15)


def test_what_fades() -> None:
    assert RecentMagnitude.decay == 0.9
    assert Magnitude.decay is None
