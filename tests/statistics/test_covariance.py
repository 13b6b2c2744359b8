"""Covariance: sums of outer products over sampled rows and neurons, and the variances along their axes."""

import numpy as np
import pytest
import torch

from lightning_neurohealth.statistics.covariance import Covariance
from tests.measures.harness import Batches, assert_close, layer
from tests.statistics.filled import filled


def test_sums_of_outer_products(batches: Batches) -> None:
    statistic = filled(Covariance(layer(batches.neurons)), batches)
    assert_close(statistic.sums, batches.rows.sum(0), atol=1e-12)
    assert_close(statistic.squares, sum(np.outer(row, row) for row in batches.rows), atol=1e-12)
    assert statistic.sampled == len(batches.rows)


def test_spectrum_is_that_of_the_covariance(batches: Batches) -> None:
    statistic = filled(Covariance(layer(batches.neurons)), batches)
    expected = np.linalg.eigvalsh(np.cov(batches.rows.T, bias=True).reshape(batches.neurons, -1))
    assert_close(statistic.spectrum, expected, rtol=1e-9, atol=1e-10)


def test_large_layers_are_sampled() -> None:
    rows, width = 3000, 1000
    x = torch.arange(rows * width, dtype=torch.float64).view(rows, width)
    statistic = Covariance(layer(width))
    statistic.update(x)
    assert statistic.sampled == 2048
    assert statistic.rows == rows
    means = statistic.sums / statistic.sampled
    columns = (means - means[0]).tolist()
    assert columns == pytest.approx([i * width // 256 for i in range(256)])
    assert float(means[0]) == pytest.approx(width * (rows - 1) / 2, rel=0.001)


@pytest.mark.parametrize("shift", [0.0, 0.1, 1e4])
def test_rounding_is_not_variance(shift: float) -> None:
    statistic = Covariance(layer(3))
    for n in (7, 1, 13):
        statistic.update(torch.full((n, 3), shift))
    assert statistic.spectrum.tolist() == [0, 0, 0]


def test_what_is_not_finite_shows_in_all_of_it() -> None:
    statistic = Covariance(layer(3))
    statistic.update(torch.tensor([[1.0, torch.inf, 0.0]]))
    assert statistic.spectrum.isnan().all()
    assert Covariance(layer(3)).spectrum.isnan().all()
