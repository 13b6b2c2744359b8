"""parameter_nonfinite_rate: 1 where the norm of a parameter is NaN or infinite."""

import math

from tests.measures.harness import compute, parameters, series


def test_one_for_each_broken_parameter() -> None:
    norms = series([[math.nan, 2.0, math.inf]])
    assert compute("parameter_nonfinite_rate", norms, parameters()).tolist() == [1, 0, 1]
