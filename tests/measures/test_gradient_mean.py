"""gradient_mean: the mean of ∂L/∂w over a layer and the measured steps."""

import numpy as np
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_over_all_elements_of_all_steps(weight: Tensor, ranks: int) -> None:
    gradients = [weight, -3 * weight, weight.cos()]
    elements = np.concatenate([rows(gradient).ravel() for gradient in gradients])
    found = measured("gradient_mean", layer_of(weight), ranks, weight_gradient=gradients)
    assert_close(found, np.mean(elements), rtol=1e-9, atol=1e-12)


def test_what_is_not_finite_shows() -> None:
    gradient = torch.tensor([[3.0, 4.0], [torch.nan, 1.0]])
    assert np.isnan(measured("gradient_mean", layer_of(gradient), weight_gradient=gradient))
