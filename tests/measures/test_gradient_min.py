"""gradient_min: the least element of ∂L/∂θ of each parameter over the measured steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tests.measures.gradients import GRADIENTS, elements, every_gradient, of_each, reported
from tests.measures.harness import assert_close


@every_gradient
def test_over_all_elements_of_all_steps(gradient: Tensor) -> None:
    steps = [gradient, -3 * gradient, gradient.cos()]
    found = of_each("gradient_min", reported([[g] for g in steps]))
    assert_close(found, [np.min(elements(*steps))], rtol=1e-9, atol=1e-12)


def test_of_each_parameter_its_own() -> None:
    found = of_each("gradient_min", reported([list(GRADIENTS.values())]))
    assert_close(found, [np.min(elements(g)) for g in GRADIENTS.values()], rtol=1e-9, atol=1e-12)


def test_what_is_not_finite_shows_where_it_is() -> None:
    gradients = [torch.tensor([3.0, bad, 1.0]) for bad in (torch.nan, torch.inf, -torch.inf, 2.0)]
    with np.errstate(invalid="ignore"):
        expected = [np.min(elements(g)) for g in gradients]
    assert_close(of_each("gradient_min", reported([gradients])), expected)
