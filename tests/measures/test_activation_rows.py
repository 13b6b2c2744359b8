"""activation_rows: rows = batch x time x space."""

from tests.measures.harness import Batches, compute


def test_rows_of_one_neuron(batches: Batches) -> None:
    elements = sum(tensor.numel() for tensor in batches.tensors)
    assert compute("activation_rows", batches) == elements / batches.neurons
