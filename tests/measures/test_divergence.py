"""divergence: 1 where training and validation loss go different ways."""

import math

import pytest

from tests.measures.harness import compute, run
from tests.measures.test_generalization_gap import given

UP, DOWN = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("validation", "train", "expected"), [(UP, DOWN, 1), (DOWN, UP, 1), (UP, UP, 0), (DOWN, DOWN, 0)]
)
def test_signs_of_the_slopes(validation: list[float], train: list[float], expected: float) -> None:
    assert compute("divergence", given(validation, train), run()) == expected


def test_only_the_last_five_evaluations_count() -> None:
    assert compute("divergence", given([90.0, 80.0, 1.0, 2.0, 3.0, 4.0, 5.0], DOWN), run()) == 1


@pytest.mark.parametrize(("validation", "train"), [([1.0], DOWN), (UP, [1.0])])
def test_too_few_to_tell(validation: list[float], train: list[float]) -> None:
    assert math.isnan(compute("divergence", given(validation, train), run()))
