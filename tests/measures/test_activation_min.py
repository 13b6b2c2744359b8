"""activation_min: min a."""

from tests.measures.harness import Batches, compute


def test_smallest_of_all_rows(batches: Batches) -> None:
    assert compute("activation_min", batches).tolist() == [min(neuron) for neuron in batches.rows.T]
