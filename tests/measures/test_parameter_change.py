"""parameter_change: size of the change of each parameter since the window before."""

import math

from tests.measures.harness import assert_close, compute, parameters, series


def test_one_row_a_window_as_it_is() -> None:
    assert_close(compute("parameter_change", series([[0.5, 0.0, 2.0]]), parameters()), [0.5, 0, 2])


def test_the_first_window_knows_no_change() -> None:
    assert compute("parameter_change", series([[math.inf] * 3]), parameters()).tolist() == [math.inf] * 3
