"""preactivation_std: population standard deviation of z."""

from tests.measures.harness import Batches, assert_close, compute


def test_spread_over_rows(batches: Batches) -> None:
    assert_close(compute("preactivation_std", batches), batches.rows.std(0), rtol=1e-9)
