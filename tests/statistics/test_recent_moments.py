"""RecentMoments: moments that fade."""

from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.recent_moments import RecentMoments
from tests.measures.harness import Batches, assert_close, layer
from tests.statistics.filled import filled


def test_what_fades() -> None:
    assert RecentMoments.decay == 0.9
    assert Moments.decay is None


def test_sums(batches: Batches) -> None:
    statistic = filled(RecentMoments(layer(batches.neurons)), batches)
    assert_close(statistic.sums, batches.rows.sum(0), rtol=1e-12, atol=1e-12)
    assert_close(statistic.squares, (batches.rows**2).sum(0))
