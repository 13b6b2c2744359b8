"""slope: E abs(f'(z))."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.measures.harness import Batches, assert_close, compute, layer

SMOOTH = [nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.SiLU(), nn.Softplus()]
KINKED = [nn.ReLU(), nn.LeakyReLU(0.2), nn.ReLU6(), nn.ELU()]


@pytest.mark.parametrize("module", [*SMOOTH, *KINKED], ids=str)
def test_mean_of_the_derivative_that_autograd_finds(batches: Batches, module: nn.Module) -> None:
    z = torch.from_numpy(batches.rows).requires_grad_()
    (slopes,) = torch.autograd.grad(module(z).sum(), z)
    assert_close(compute("slope", batches, layer(batches.neurons, module)), slopes.abs().mean(0), 1e-6, 1e-6)


def test_dead_relu_has_none() -> None:
    z = Batches((torch.tensor([[-1.0, 0.0, 2.0], [-2.0, 0.0, -1.0]]),))
    assert compute("slope", z, layer(3, nn.ReLU())).tolist() == [0, 0, 0.5]


def test_learned_slopes_count_channel_by_channel() -> None:
    module = nn.PReLU(3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.5, -0.25, 0.0]))
    z = Batches((-torch.ones(4, 3, 2), torch.ones(1, 3, 4)), 1)
    assert_close(compute("slope", z, layer(3, module)), np.array([8 * 0.5 + 4, 8 * 0.25 + 4, 4]) / 12)
