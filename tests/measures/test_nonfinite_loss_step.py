"""nonfinite_loss_step: the first step on which the training loss was NaN or infinite."""

import math

import pytest

from tests.measures.harness import compute, run, series


@pytest.mark.parametrize(
    ("values", "first"),
    [([1.0, 2.0], math.inf), ([math.nan, 1.0], 0), ([1.0, 2.0, math.inf, math.nan], 2), ([1.0, -math.inf], 1)],
)
def test_first_step(values: list[float], first: float) -> None:
    assert compute("nonfinite_loss_step", series(values), run()) == first
