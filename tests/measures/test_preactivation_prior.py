"""preactivation_prior: P(z beyond the tails) for z ~ N(b, norm of w squared)."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
@pytest.mark.parametrize(
    ("module", "low", "high"),
    [(nn.Tanh(), -2.5, 2.5), (nn.Sigmoid(), -5, 5), (nn.ReLU(), 0, math.inf), (nn.ReLU6(), 0, 6)],
    ids=str,
)
def test_both_tails_of_a_normal_distribution(
    weight: Tensor, ranks: int, module: nn.Module, low: float, high: float
) -> None:
    bias = torch.linspace(-3, 4, len(weight))
    prior = measured("preactivation_prior", layer_of(weight, module), ranks, weight=weight, bias=bias)
    expected = []
    for neuron, b in zip(rows(weight), bias.double().tolist(), strict=True):
        spread = math.sqrt(sum(w * w for w in neuron))
        if spread > 0:
            z = NormalDist(b, spread)
            expected.append(z.cdf(low) + (1 - z.cdf(high) if high < math.inf else 0))
        else:
            expected.append(float(b <= low or b >= high))
    assert_close(prior, expected, rtol=1e-9, atol=1e-12)


def test_without_weights_z_is_the_bias() -> None:
    weight, bias = torch.zeros(4, 2), torch.tensor([-3.0, -2.4, 0.0, 3.0])
    prior = measured("preactivation_prior", layer_of(weight, nn.Tanh()), weight=weight, bias=bias)
    assert prior.tolist() == [1, 0, 0, 1]


def test_a_broken_neuron_is_alone_with_it() -> None:
    weight, bias = torch.tensor([[torch.nan], [1.0], [1.0]]), torch.tensor([0.0, torch.nan, torch.inf])
    prior = measured("preactivation_prior", layer_of(weight, nn.Tanh()), weight=weight, bias=bias)
    np.testing.assert_equal(prior, [np.nan, np.nan, 1])
