"""prelu_slope_std: the population standard deviation of the learned slopes."""

import numpy as np
import pytest
import torch

from tests.measures.harness import assert_close, layer
from tests.measures.weights import measured


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("slopes", [[0.25], [0.25, 0.25], [0.5, -0.25, 0.0, 2.0]])
def test_spread(slopes: list[float], dtype: torch.dtype, ranks: int) -> None:
    parameter = torch.tensor(slopes, dtype=dtype)
    assert_close(measured("prelu_slope_std", layer(4), ranks, slope_parameter=parameter), np.std(slopes))


def test_what_is_not_finite_shows() -> None:
    assert np.isnan(measured("prelu_slope_std", layer(2), slope_parameter=torch.tensor([0.25, torch.nan])))
