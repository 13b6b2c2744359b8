"""PassCounts: rows on which a gradient is not zero, a neuron's or any of the layer's."""

import torch

from lightning_neurohealth.statistics.pass_counts import PassCounts
from tests.measures.harness import Batches, layer
from tests.statistics.filled import filled


def test_counts(batches: Batches) -> None:
    statistic = filled(PassCounts(layer(batches.neurons)), batches)
    assert statistic.passed.tolist() == [sum(x != 0 for x in neuron) for neuron in batches.rows.T]
    assert statistic.live == sum(any(row) for row in batches.rows)


def test_a_row_is_a_place_in_space() -> None:
    gradient = torch.zeros(2, 3, 4)
    gradient[0, 1, 2] = 1e-30
    gradient[0, 2, 2] = -1.0
    gradient[1, 0, 3] = 1.0
    statistic = PassCounts(layer(3))
    statistic.update(gradient)
    assert statistic.passed.tolist() == [1, 1, 1]
    assert (statistic.live, statistic.rows) == (2, 8)
