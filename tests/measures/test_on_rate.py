"""on_rate: P(a > 0)."""

import torch

from tests.measures.harness import Batches, assert_close, compute


def test_share_of_rows_on_which_it_is_positive(batches: Batches) -> None:
    expected = [sum(a > 0 for a in neuron) / len(neuron) for neuron in batches.rows.T]
    assert_close(compute("on_rate", batches), expected)


def test_ends() -> None:
    never, always, zero = [-1.0] * 3, [1e-30] * 3, [0.0] * 3
    assert compute("on_rate", Batches((torch.tensor([never, always, zero]).T,))).tolist() == [0, 1, 0]
