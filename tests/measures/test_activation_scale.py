"""activation_scale: spread over the rows of a batch, median over neurons."""

import math

import numpy as np
import torch

from tests.measures.harness import Batches, assert_close, compute


def scale(batches: list[np.ndarray]) -> float:
    """Deviations from the mean of the own batch, pooled over batches; of two middle neurons the lower."""
    spreads = []
    for i in range(batches[0].shape[1]):
        columns = [batch[:, i] for batch in batches]
        freedom = sum(len(c) - 1 for c in columns)
        spreads.append(math.sqrt(sum(((c - c.mean()) ** 2).sum() for c in columns) / freedom))
    return sorted(spreads)[(len(spreads) - 1) // 2]


def test_median_neuron(batches: Batches) -> None:
    if len(batches.rows) > 1:
        assert_close(compute("activation_scale", batches), scale(batches.by_batch), rtol=1e-9)
    else:
        assert compute("activation_scale", batches) == 0


def test_drift_between_batches_and_bias_of_neurons_do_not_count() -> None:
    still = torch.tensor([[1.0, 20.0, -300.0], [1.5, 20.5, -299.5]])
    assert_close(compute("activation_scale", Batches((still, still + 40, still - 7))), math.sqrt(0.125))


def test_batches_of_one_row_give_the_spread_over_all_rows() -> None:
    single = Batches(tuple(torch.tensor([[float(i), 2.0 * i, 4.0 * i]]) for i in range(4)))
    assert_close(compute("activation_scale", single), np.median(single.rows.std(0)))
