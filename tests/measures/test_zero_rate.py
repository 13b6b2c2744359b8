"""zero_rate: P(abs(a) <= 1e-8)."""

import torch

from tests.measures.harness import Batches, assert_close, compute


def test_share_of_rows_on_which_it_is_zero(batches: Batches) -> None:
    expected = [sum(abs(a) <= 1e-8 for a in neuron) / len(neuron) for neuron in batches.rows.T]
    assert_close(compute("zero_rate", batches), expected)


def test_what_counts_as_zero() -> None:
    row = torch.tensor([[0.0, -0.0, 9e-9, -9e-9, 2e-8, -1.0]])
    assert compute("zero_rate", Batches((row,))).tolist() == [1, 1, 1, 1, 0, 0]
