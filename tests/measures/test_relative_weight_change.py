"""relative_weight_change: the norm of a neuron's update beside that of its weights."""

import numpy as np
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_change_in_norms_of_the_weight(weight: Tensor, ranks: int) -> None:
    updates = [weight.cos(), -2 * weight.cos()]
    change = measured("relative_weight_change", layer_of(weight), ranks, weight_update=updates, weight=weight)
    norms = [np.linalg.norm(rows(update), axis=1) for update in updates]
    expected = np.sqrt(np.mean(np.square(norms), axis=0)) / (np.linalg.norm(rows(weight), axis=1) + 1e-8)
    assert_close(change, expected)


def test_without_weights() -> None:
    weight, update = torch.zeros(3, 1), torch.tensor([[0.0], [0.5], [torch.nan]])
    change = measured("relative_weight_change", layer_of(weight), weight=weight, weight_update=update)
    np.testing.assert_allclose(change, [0, 5e7, np.nan])
