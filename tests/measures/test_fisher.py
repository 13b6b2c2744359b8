"""fisher: the sum of squared gradients of a neuron's weights, in which each measured step counts 0.9 of the next."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_faded_sum_over_faded_steps(weight: Tensor, ranks: int) -> None:
    gradients = [weight, -3 * weight, weight.cos()]
    total, steps = np.zeros(len(weight)), 0.0
    for gradient in gradients:
        total, steps = 0.9 * total + (rows(gradient) ** 2).sum(1), 0.9 * steps + 1
    assert_close(measured("fisher", layer_of(weight), ranks, weight_gradient=gradients), total / steps)


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_constant_gradient_shows_in_full_from_the_first_step(steps: int) -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert_close(measured("fisher", layer_of(gradient), weight_gradient=[gradient] * steps), [25, 0])


def test_a_broken_neuron_is_alone_with_it() -> None:
    gradient = torch.tensor([[3.0, 4.0], [torch.nan, 1.0], [torch.inf, 1.0]])
    found = measured("fisher", layer_of(gradient), weight_gradient=gradient)
    np.testing.assert_equal(found, [25, np.nan, np.inf])
