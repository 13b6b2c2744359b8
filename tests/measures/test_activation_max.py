"""activation_max: max a."""

from tests.measures.harness import Batches, compute


def test_largest_of_all_rows(batches: Batches) -> None:
    assert compute("activation_max", batches).tolist() == [max(neuron) for neuron in batches.rows.T]
