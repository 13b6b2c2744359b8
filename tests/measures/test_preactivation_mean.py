"""preactivation_mean: E z."""

from tests.measures.harness import Batches, assert_close, compute


def test_mean_over_rows(batches: Batches) -> None:
    assert_close(compute("preactivation_mean", batches), [sum(neuron) / len(neuron) for neuron in batches.rows.T])
