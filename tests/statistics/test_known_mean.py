"""KnownMean: the sum and the number of what is not NaN."""

import math

import numpy as np
import torch

from lightning_neurohealth.statistics.known_mean import KnownMean
from tests.measures.harness import Batches, assert_close, layer
from tests.statistics.filled import filled


def test_mean_of_ordinary_numbers(batches: Batches) -> None:
    statistic = filled(KnownMean(layer(batches.neurons)), batches)
    assert_close(statistic.mean, batches.rows.mean(0), atol=1e-12)
    assert statistic.known.tolist() == [len(batches.rows)] * batches.neurons


def test_nan_is_left_out_and_infinity_is_not() -> None:
    nan, inf = math.nan, math.inf
    statistic = KnownMean(layer(4))
    statistic.update(torch.tensor([[1.0, nan, nan, inf], [3.0, 5.0, nan, 1.0]]))
    np.testing.assert_equal(np.asarray(statistic.mean), [2, 5, nan, inf])
    assert statistic.known.tolist() == [2, 1, 0, 2]
    assert statistic.rows == 2
