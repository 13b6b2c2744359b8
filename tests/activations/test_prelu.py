"""PReLU, whose slopes are learned."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.activations.known import DTYPES, INF, Watch, autograd, known


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3), (2, 5, 3, 4)], ids=str)
@pytest.mark.parametrize("parameters", [1, 5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_prelu_slopes(shape: tuple[int, ...], parameters: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = nn.PReLU(parameters)
    activation = known(module)

    def check() -> None:
        z = torch.randn(shape).to(dtype)
        z.view(-1)[0] = 0
        actual = activation.derivative(z.view(shape[0], shape[1], -1))
        expected = autograd(lambda x: F.prelu(x, module.weight.to(dtype)), z)
        torch.testing.assert_close(actual, expected.view_as(actual))
        assert not actual.requires_grad

    check()
    with torch.no_grad():  # a step of the optimizer
        module.weight.copy_(torch.linspace(-0.5, 1.5, parameters))
    check()
    module.weight = nn.Parameter(torch.full((parameters,), 0.7))  # a replacement
    check()


def test_prelu_function_reads_the_current_slopes() -> None:
    weight = nn.Parameter(torch.full((3,), 0.25))
    with Watch() as watch:
        F.prelu(torch.randn(2, 3), weight)
    with torch.no_grad():
        weight.copy_(torch.tensor([0.1, 0.2, 0.3]))
    slope = watch.seen[0].derivative(-torch.ones(1, 3, 2))
    torch.testing.assert_close(slope, torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1).expand(1, 3, 2))
    assert not slope.requires_grad


def test_prelu_shape() -> None:
    activation = known(nn.PReLU(3))
    assert (activation.name, activation.dead_values, activation.lower, activation.upper) == ("prelu", (), None, None)
    assert (activation.tails, activation.peak) == ((-INF, INF), 1.0)
    z = torch.tensor([1e4, -1e4, math.nan, 0.0, 1.0, -1.0]).view(1, 3, 2)
    assert activation.derivative(z).flatten().tolist() == pytest.approx([1, 0.25, math.nan, 0.25, 1, 0.25], nan_ok=True)


def test_prelu_with_slopes_along_another_axis() -> None:
    module = nn.PReLU(2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.1, 0.3]))
    slope = known(module).derivative(torch.tensor([-1.0, 1.0, -2.0]).view(1, 3, 1))
    torch.testing.assert_close(slope.flatten(), torch.tensor([0.2, 1.0, 0.2]))
