"""gradient_norm: root mean square over steps of the norm of each parameter's gradient."""

import math

from tests.measures.harness import assert_close, compute, parameters, series


def test_root_mean_square_over_steps() -> None:
    norms = series([[1.0, 0.0, 3.0], [5.0, 0.0, 4.0], [2.0, 0.0, 1e-6]])
    expected = [math.sqrt(30 / 3), 0, math.sqrt((25 + 1e-12) / 3)]
    assert_close(compute("gradient_norm", norms, parameters()), expected)
