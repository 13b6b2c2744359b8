"""gradient_std: the population standard deviation of ∂L/∂θ of each parameter over the measured steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tests.measures.gradients import GRADIENTS, elements, every_gradient, of_each, reported
from tests.measures.harness import assert_close


@every_gradient
def test_over_all_elements_of_all_steps(gradient: Tensor) -> None:
    steps = [gradient, -3 * gradient, gradient.cos()]
    found = of_each("gradient_std", reported([[g] for g in steps]))
    assert_close(found, [np.std(elements(*steps))], rtol=5e-6, atol=1e-7)


def test_of_each_parameter_its_own() -> None:
    found = of_each("gradient_std", reported([list(GRADIENTS.values())]))
    assert_close(found, [np.std(elements(g)) for g in GRADIENTS.values()], rtol=5e-6, atol=1e-7)


def test_what_is_not_finite_shows_where_it_is() -> None:
    gradients = [torch.tensor([3.0, bad, 1.0]) for bad in (torch.nan, torch.inf, -torch.inf, 2.0)]
    with np.errstate(invalid="ignore"):
        expected = [np.std(elements(g)) for g in gradients]
    assert_close(of_each("gradient_std", reported([gradients])), expected)


def test_of_a_constant_it_is_0() -> None:
    gradients = [torch.full((30_000,), 0.1), torch.full((3,), 1e-30), torch.tensor(0.3)]
    assert of_each("gradient_std", reported([gradients, gradients])) == [0, 0, 0]


def test_of_a_gradient_whose_squares_are_no_float32() -> None:
    gradient = torch.linspace(-1, 1, 1000) * 1e-30
    assert_close(of_each("gradient_std", reported([[gradient]])), [np.std(elements(gradient))], rtol=1e-9)
