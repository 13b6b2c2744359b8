"""Numbers of the page: few bytes, and as near as they are told to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lightning_neurohealth.reporting.planes import Planes


def read(planes: Planes) -> list[float]:
    upper, middle, lower = np.frombuffer(planes.to_bytes(), np.uint8).reshape(3, -1)
    spelled = np.stack([np.zeros_like(upper), lower, middle, upper], 1)
    return spelled.copy().view("<f4").ravel().tolist()


@pytest.mark.parametrize("bits", [7, 12, 15])
def test_numbers_are_near(bits: int) -> None:
    values = torch.randn(1000, dtype=torch.float64) * 10.0 ** torch.randint(-30, 30, (1000,))
    planes = Planes()
    planes.put(values, bits)
    error = (torch.tensor(read(planes), dtype=torch.float64) / values - 1).abs()
    assert float(error.max()) <= 2.0 ** -(bits + 1) * 1.001
    assert float(error.max()) > 2.0 ** -(bits + 2)  # and no nearer: the lower bits are what compression saves


def test_what_is_special_stays() -> None:
    planes = Planes()
    cuda_nan = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    planes.put(torch.cat([torch.tensor([0.0, 1.0, math.inf, -math.inf, math.nan, 1e-30]), cuda_nan]), bits=7)
    zero, one, high, low, nan, tiny, other = read(planes)
    assert (zero, one, high, low) == (0, 1, math.inf, -math.inf)
    assert math.isnan(nan)
    assert math.isnan(other)
    assert tiny == pytest.approx(1e-30, rel=0.01)


def test_places_follow_each_other() -> None:
    planes = Planes()
    assert planes.put(torch.zeros(2, 3)) == [0, 2, 3]
    assert planes.put(torch.ones(3, 2).T) == [6, 2, 3]
    assert planes.put(torch.zeros(0, 4)) == [12, 0, 4]
    assert read(planes) == [0.0] * 6 + [1.0] * 6


def test_nothing_is_no_bytes() -> None:
    assert Planes().to_bytes() == b""
