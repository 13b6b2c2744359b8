"""activation_magnitude: E abs(a)."""

from tests.measures.harness import Batches, assert_close, compute


def test_mean_of_absolute_values(batches: Batches) -> None:
    assert_close(compute("activation_magnitude", batches), [sum(map(abs, n)) / len(n) for n in batches.rows.T])
