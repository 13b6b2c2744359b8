"""update_ratio: mean over steps of the size of an update over that of the parameter."""

import math

from tests.measures.harness import assert_close, compute, parameters, series


def test_mean_over_the_steps_that_are_known() -> None:
    ratios = series([[0.1, math.nan, math.nan], [0.3, 2.0, math.nan], [0.2, 4.0, math.nan]])
    assert_close(compute("update_ratio", ratios, parameters()), [0.2, 3, math.nan])
