"""activation_entropy_share: the entropy over that of bins all filled alike."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.measures.harness import Batches, assert_close, compute, layer


@pytest.mark.parametrize(
    ("module", "bins"),
    [
        (None, 67),
        (nn.ReLU(), 34),
        (nn.Tanh(), 64),
        (nn.ReLU6(), 64),
        (nn.LogSigmoid(), 34),
        (nn.Threshold(1e3, 1e3), 67),
    ],
    ids=str,
)
def test_share_of_all_bits(module: nn.Module | None, bins: int) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = Batches(tuple(torch.randn(n, 5, generator=generator) for n in (7, 1, 13)))
    subject = layer(5, module)
    entropy = compute("activation_entropy", batches, subject)
    assert_close(compute("activation_entropy_share", batches, subject), entropy / math.log2(bins))


def test_ends() -> None:
    grid = (torch.arange(64.0) - 31.5).div(32)
    batch = torch.stack([grid, torch.full((64,), 0.3), torch.full((64,), torch.nan)], 1)
    share = compute("activation_entropy_share", Batches((batch,)), layer(3, nn.Tanh()))
    np.testing.assert_allclose(share, [1, 0, np.nan])
