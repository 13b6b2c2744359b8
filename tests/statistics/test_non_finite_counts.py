"""NonFiniteCounts: rows on which x is NaN or infinite, and the first step."""

import math

import torch

from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts
from tests.measures.harness import Batches, layer
from tests.statistics.filled import filled


def test_every_kind_counts() -> None:
    nan, inf = math.nan, math.inf
    x = torch.tensor([[nan, inf, 1.0], [1.0, -inf, 3e38], [nan, nan, -3e38]])
    statistic = NonFiniteCounts(layer(3))
    statistic.update(x)
    assert statistic.bad.tolist() == [2, 3, 0]


def test_ordinary_numbers_do_not(batches: Batches) -> None:
    statistic = filled(NonFiniteCounts(layer(batches.neurons)), batches)
    assert statistic.bad.tolist() == [0] * batches.neurons
    assert statistic.first == math.inf
    assert statistic.rows == len(batches.rows)


def test_first_step() -> None:
    statistic = NonFiniteCounts(layer(2))
    good, bad = torch.ones(3, 2, 1), torch.full((3, 2, 1), math.nan)
    for step, x in ((4, good), (7, bad), (5, good), (9, bad)):
        statistic.merge(statistic.partials(x, step))
    assert statistic.first == 7
    statistic.merge(statistic.partials(bad, 6))
    assert statistic.first == 6
