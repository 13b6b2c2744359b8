"""SignCounts: rows on which x > 0, and rows on which it is zero."""

import torch

from lightning_neurohealth.statistics.sign_counts import SignCounts
from tests.measures.harness import Batches, layer
from tests.statistics.filled import filled


def test_counts(batches: Batches) -> None:
    statistic = filled(SignCounts(layer(batches.neurons)), batches)
    assert statistic.positive.tolist() == [sum(x > 0 for x in neuron) for neuron in batches.rows.T]
    assert statistic.zero.tolist() == [sum(abs(x) <= 1e-8 for x in neuron) for neuron in batches.rows.T]
    assert statistic.rows == len(batches.rows)


def test_kinds_of_zero() -> None:
    statistic = SignCounts(layer(6))
    statistic.update(torch.tensor([[0.0, -0.0, 9e-9, -9e-9, 2e-8, -2e-8]]))
    assert statistic.zero.tolist() == [1, 1, 1, 1, 0, 0]
    assert statistic.positive.tolist() == [0, 0, 1, 0, 1, 0]
