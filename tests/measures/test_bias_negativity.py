"""bias_negativity: b / (norm of w + 1e-8)."""

import numpy as np
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_bias_in_norms(weight: Tensor, ranks: int) -> None:
    bias = torch.linspace(-2, 1, len(weight))
    ratio = measured("bias_negativity", layer_of(weight), ranks, weight=weight, bias=bias)
    assert_close(ratio, np.asarray(bias.double()) / (np.linalg.norm(rows(weight), axis=1) + 1e-8))


def test_without_weights_the_bias_decides_alone() -> None:
    weight, bias = torch.zeros(3, 2), torch.tensor([-1.0, 0.0, 2.0])
    assert_close(measured("bias_negativity", layer_of(weight), weight=weight, bias=bias), [-1e8, 0, 2e8])


def test_a_broken_neuron_is_alone_with_it() -> None:
    weight, bias = torch.tensor([[3.0, 4.0], [torch.nan, 1.0], [0.0, 1.0]]), torch.tensor([-5.0, 1.0, torch.inf])
    ratio = measured("bias_negativity", layer_of(weight), weight=weight, bias=bias)
    np.testing.assert_allclose(ratio, [-1, np.nan, np.inf], rtol=1e-8)
