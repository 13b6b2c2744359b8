"""loss_relative_variance: Var L / (mean(L) squared + 1e-8) over the last 5, 10 and 15 points."""

import numpy as np
import pytest

from tests.measures.harness import assert_close, compute, run, series


@pytest.mark.parametrize("points", [1, 12, 40])
def test_of_the_last_points(points: int) -> None:
    losses = np.random.default_rng(0).normal(size=points) / 100
    recent = [losses[-span:] for span in (5, 10, 15)]
    expected = [part.var() / (part.mean() ** 2 + 1e-8) for part in recent]
    assert_close(compute("loss_relative_variance", series(losses), run()), expected)
