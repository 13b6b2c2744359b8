"""nonfinite_rate: P(a is NaN or infinite)."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.measures.harness import Batches, assert_close, compute


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_share_of_broken_rows(batches: Batches, value: float) -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where(x > 1, value, x)

    activation = batches.map(broken)
    assert_close(compute("nonfinite_rate", activation), 1 - np.isfinite(activation.rows).mean(0))
    assert compute("nonfinite_rate", batches).tolist() == [0] * batches.neurons
