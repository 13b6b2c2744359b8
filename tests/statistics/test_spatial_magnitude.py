"""SpatialMagnitude: absolute values of sums over space, summed over samples."""

import numpy as np
import torch

from lightning_neurohealth.statistics.spatial_magnitude import SpatialMagnitude
from tests.measures.harness import assert_close, layer


def test_space_before_and_samples_after_the_absolute_value() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, 3, 4, generator=generator) for n in (7, 1, 13)]
    statistic = SpatialMagnitude(layer(3))
    for batch in batches:
        statistic.update(batch)
    sums = np.concatenate([np.asarray(batch.double()).sum(2) for batch in batches])
    assert_close(statistic.sums, abs(sums).sum(0))
    assert statistic.samples == 21
    assert statistic.rows == 84


def test_without_space_every_row_is_a_sample() -> None:
    statistic = SpatialMagnitude(layer(2))
    statistic.update(torch.tensor([[1.0, -2.0], [-1.0, -2.0]]))
    assert statistic.sums.tolist() == [2, 4]
    assert statistic.samples == 2


def test_sums_of_halves_do_not_overflow() -> None:
    statistic = SpatialMagnitude(layer(1))
    statistic.update(torch.full((1, 1, 100), 60_000.0, dtype=torch.float16))
    assert statistic.sums.tolist() == [60_000.0 * 100] or statistic.sums.tolist() == [59_968.0 * 100]
