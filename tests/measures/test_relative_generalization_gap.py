"""relative_generalization_gap: generalization_gap over the size of the training loss."""

import math

import pytest

from tests.measures.harness import assert_close, compute, run
from tests.measures.test_generalization_gap import given


@pytest.mark.parametrize(("train", "expected"), [([4.0, 2.0], 2 / 3), ([-4.0, -2.0], 8 / 3), ([0.0], 5e8)])
def test_share_of_the_training_loss(train: list[float], expected: float) -> None:
    assert_close(compute("relative_generalization_gap", given([9.0, 5.0], train), run()), expected, rtol=1e-7)


def test_without_an_evaluation() -> None:
    assert math.isnan(compute("relative_generalization_gap", given([], [1.0]), run()))
