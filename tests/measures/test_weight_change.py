"""weight_change: the norm of a neuron's update, root mean square over steps."""

import numpy as np
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_root_mean_square_of_norms(weight: Tensor, ranks: int) -> None:
    updates = [weight, -2 * weight, 0 * weight]
    change = measured("weight_change", layer_of(weight), ranks, weight_update=updates)
    norms = [np.linalg.norm(rows(update), axis=1) for update in updates]
    assert_close(change, np.sqrt(np.mean(np.square(norms), axis=0)))


def test_a_broken_neuron_is_alone_with_it() -> None:
    updates = [torch.tensor([[3.0, 4.0], [torch.nan, 1.0], [0.0, 0.0]])]
    np.testing.assert_equal(measured("weight_change", layer_of(updates[0]), weight_update=updates), [5, np.nan, 0])
