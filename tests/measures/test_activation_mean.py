"""activation_mean: E a."""

from tests.measures.harness import Batches, assert_close, compute


def test_mean_over_rows_and_not_over_batches(batches: Batches) -> None:
    assert_close(compute("activation_mean", batches), [sum(neuron) / len(neuron) for neuron in batches.rows.T])
