"""Extremes: the smallest and the largest value."""

import math

from lightning_neurohealth.statistics.extremes import Extremes
from tests.measures.harness import Batches, layer
from tests.statistics.filled import filled


def test_of_all_rows(batches: Batches) -> None:
    statistic = filled(Extremes(layer(batches.neurons)), batches)
    assert statistic.lowest.tolist() == [min(neuron) for neuron in batches.rows.T]
    assert statistic.highest.tolist() == [max(neuron) for neuron in batches.rows.T]


def test_of_nothing() -> None:
    statistic = Extremes(layer(2))
    assert statistic.lowest.tolist() == [math.inf] * 2
    assert statistic.highest.tolist() == [-math.inf] * 2
