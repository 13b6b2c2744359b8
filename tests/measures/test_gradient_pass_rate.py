"""gradient_pass_rate: P(g != 0) on rows where the layer's g is not all zero."""

import torch

from tests.measures.harness import Batches, assert_close, compute


def test_share_of_the_rows_on_which_some_neuron_has_a_gradient(batches: Batches) -> None:
    live = [row for row in batches.rows if any(row)]
    expected = [sum(row[i] != 0 for row in live) / len(live) for i in range(batches.neurons)]
    assert_close(compute("gradient_pass_rate", batches), expected)


def test_silent_rows_do_not_count() -> None:
    gradient = torch.tensor([[0.0, 0.0, 0.0], [1e-30, 0.0, -5.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert compute("gradient_pass_rate", Batches((gradient,))).tolist() == [0.5, 0, 1]


def test_none_gets_through_where_none_arrives() -> None:
    assert compute("gradient_pass_rate", Batches((torch.zeros(4, 3),))).tolist() == [0, 0, 0]
