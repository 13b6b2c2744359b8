"""gradient_uniformity: mean abs(g) / std abs(g) over the elements of a weight's gradient."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_over_all_elements_of_all_steps(weight: Tensor, ranks: int) -> None:
    gradients = [weight, -3 * weight, weight.cos()]
    sizes = abs(np.concatenate([rows(gradient).ravel() for gradient in gradients]))
    found = measured("gradient_uniformity", layer_of(weight), ranks, weight_gradient=gradients)
    assert_close(found, sizes.mean() / sizes.std(), rtol=1e-9)


def test_pure_noise_scores_what_the_half_normal_distribution_says() -> None:
    noise = torch.randn(400, 400, generator=torch.Generator().manual_seed(0))
    found = measured("gradient_uniformity", layer_of(noise), weight_gradient=noise)
    assert_close(found, math.sqrt(2 / math.pi) / math.sqrt(1 - 2 / math.pi), rtol=0.01)


@pytest.mark.parametrize(("size", "expected"), [(0.0, 0.0), (0.5, math.inf), (math.nan, math.nan)])
def test_no_gradient_one_size_and_broken(size: float, expected: float) -> None:
    gradient = torch.full((3, 2), size)
    np.testing.assert_equal(measured("gradient_uniformity", layer_of(gradient), weight_gradient=gradient), expected)
