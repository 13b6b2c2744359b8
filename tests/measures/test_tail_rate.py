"""tail_rate: P(z in the tails of f)."""

import pytest
import torch
from torch import nn

from tests.measures.harness import Batches, assert_close, compute, layer

GRID = torch.linspace(-40, 40, 80_001, dtype=torch.float64)


@pytest.mark.parametrize(("module", "tail"), [(nn.Tanh(), 2.5), (nn.Sigmoid(), 5.0)], ids=str)
def test_tails_by_convention(batches: Batches, module: nn.Module, tail: float) -> None:
    wide = batches.map(lambda z: 2 * z)
    expected = [sum(abs(z) >= tail for z in neuron) / len(neuron) for neuron in wide.rows.T]
    assert_close(compute("tail_rate", wide, layer(batches.neurons, module)), expected)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.LeakyReLU(), nn.GELU(), nn.SiLU(), nn.ELU(), nn.ReLU6()], ids=str)
def test_tails_by_slope(batches: Batches, module: nn.Module) -> None:
    """Outside of the last z on either side at which the slope reaches 5 % of its largest value."""
    z = GRID.clone().requires_grad_()
    (slope,) = torch.autograd.grad(module(z).sum(), z)
    steep = GRID[slope.abs() >= 0.05 * slope.abs().max()]
    low, high = steep.min().item(), steep.max().item()
    wide = batches.map(lambda z: 2 * z.float())
    beyond = (wide.rows <= low - 1e-3 + 1e-9) | ((wide.rows > high) & (high < 39))
    assert_close(compute("tail_rate", wide, layer(batches.neurons, module)), beyond.mean(0))


@pytest.mark.parametrize(
    ("module", "zero", "six"),
    [(nn.ReLU(), 1, 0), (nn.ReLU6(), 1, 1), (nn.LeakyReLU(), 1, 0), (nn.Tanh(), 0, 1)],
    ids=str,
)
def test_the_end_of_a_flat_piece_is_flat(module: nn.Module, zero: float, six: float) -> None:
    """A neuron without weights or bias gives z = 0 on all rows; ReLU's slope there is 0, as autograd has it."""
    z = torch.tensor([[0.0, 6.0]]).expand(5, 2)
    assert_close(compute("tail_rate", Batches((z,)), layer(2, module)), [zero, six])
