"""dead_weight_rate: the share of a neuron's weights with abs(w) <= 1e-8."""

import numpy as np
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_share_of_zeros(weight: Tensor, ranks: int) -> None:
    rate = measured("dead_weight_rate", layer_of(weight), ranks, weight=weight)
    assert_close(rate, [sum(abs(w) < 1e-8 for w in neuron) / len(neuron) for neuron in rows(weight)])


def test_small_is_not_dead_and_neither_is_broken() -> None:
    weight = torch.tensor([[1e-7, -1e-7], [1e-9, 1.0], [0.0, -0.0], [torch.nan, 0.0], [torch.inf, 1.0]])
    rate = measured("dead_weight_rate", layer_of(weight), weight=weight)
    np.testing.assert_equal(rate, [0, 0.5, 1, 0.5, 0])
