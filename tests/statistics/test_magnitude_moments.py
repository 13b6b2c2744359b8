"""MagnitudeMoments: moments of abs(x)."""

from lightning_neurohealth.statistics.magnitude_moments import MagnitudeMoments
from tests.measures.harness import Batches, assert_close, layer
from tests.statistics.filled import filled


def test_mean_and_variances_of_absolute_values(batches: Batches) -> None:
    statistic = filled(MagnitudeMoments(layer(batches.neurons)), batches)
    assert_close(statistic.mean, abs(batches.rows).mean(0))
    assert_close(statistic.variance, abs(batches.rows).var(0), rtol=1e-9)
    assert_close(statistic.pooled_variance, abs(batches.rows).var(), rtol=1e-9)
