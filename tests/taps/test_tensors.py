"""Taps deliver the numbers of the tensor itself, whatever its layout, type and graph."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.training import MLP, watch_step


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_does_not_show(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    plain = watch_step(copy.deepcopy(net), x)[1]
    other = watch_step(net.to(memory_format=memory_format), x.to(memory_format=memory_format))[1]
    for measure in ("on_rate", "activation_std", "preactivation_mean", "gradient_flow"):
        torch.testing.assert_close(other["0"][measure], plain["0"][measure], rtol=1e-12, atol=1e-12)


def test_statistics_are_of_the_tensor_before_anything_changes_it() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act = nn.Linear(4, 8), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            a = self.act(self.fc(x))
            a += 100.0
            return a

    net, x = InPlace(), torch.randn(50, 4)
    _, report = watch_step(net, x, backward=False)
    z = net.fc(x)
    torch.testing.assert_close(report["fc"]["preactivation_mean"], z.double().mean(0))
    torch.testing.assert_close(report["fc"]["activation_mean"], z.relu().double().mean(0))


def flow(net: nn.Module, x: Tensor, name: str) -> Tensor:
    return watch_step(net, x)[1][name]["gradient_flow"]


def test_gradient_is_that_of_the_activation() -> None:
    net, x = MLP().double(), torch.randn(20, 4, dtype=torch.float64)
    a = torch.relu(net.fc1(x)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.fc2(a).square().mean(), a)
    torch.testing.assert_close(flow(net, x, "fc1"), gradient.abs().mean(0), rtol=1e-12, atol=0)


def test_gradient_behind_an_inplace_activation() -> None:
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    inplace = copy.deepcopy(plain)
    inplace[1].inplace = True
    x = torch.randn(20, 4, dtype=torch.float64)
    torch.testing.assert_close(flow(inplace, x, "0"), flow(plain, x, "0"), rtol=1e-12, atol=0)


def test_no_gradients_without_a_graph() -> None:
    net, x = MLP(), torch.randn(10, 4)
    with torch.no_grad():
        _, report = watch_step(net, x, backward=False)
    assert float(report["fc1"]["activation_rows"]) == 10
    assert "gradient_flow" not in report["fc1"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    net, x = MLP().to(dtype), torch.randn(100, 4).to(dtype)
    _, report = watch_step(net, x)
    a = torch.relu(net.fc1(x)).double()
    torch.testing.assert_close(report["fc1"]["activation_mean"], a.mean(0))
    torch.testing.assert_close(report["fc1"]["on_rate"], (a > 0).double().mean(0))


def test_autocast() -> None:
    net, x = MLP(), torch.randn(100, 4)
    with torch.autocast("cpu", torch.bfloat16):
        _, report = watch_step(net, x)
    a = torch.relu(net.fc1(x)).double()
    torch.testing.assert_close(report["fc1"]["activation_mean"], a.mean(0), rtol=0.02, atol=0.02)
    assert list(report) == ["fc1", "fc2"]
