"""Activations that are written out are seen as what they are, and not as a gate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.layers.seen import rows_of
from tests.training import Learner, fit, layers_of, make_data, watch_step

Function = Callable[[Tensor], Tensor]
C = math.sqrt(2 / math.pi)


class Mlp(nn.Module):
    """A layer, an activation of the user's own, a head."""

    def __init__(self, function: Function, norm: nn.Module | None = None, width: int = 8) -> None:
        super().__init__()
        self.fc, self.norm, self.head = nn.Linear(4, width), norm or nn.Identity(), nn.Linear(width, 1)
        nn.init.normal_(self.fc.weight)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.norm(self.fc(x))))


WRITTEN: dict[str, tuple[str, Function, Function]] = {
    "x * sigmoid(x)": ("silu", lambda x: x * torch.sigmoid(x), F.silu),
    "sigmoid(x) * x": ("silu", lambda x: x.sigmoid().mul(x), F.silu),
    "x / (1 + exp(-x))": ("silu", lambda x: x / (1 + torch.exp(-x)), F.silu),
    "x * sigmoid(1.702 x)": ("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x), lambda x: F.silu(1.702 * x) / 1.702),
    "tanh-GELU": (
        "gelu_tanh",
        lambda x: 0.5 * x * (1 + torch.tanh(C * (x + 0.044715 * x**3))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "tanh-GELU with pow": (
        "gelu_tanh",
        lambda x: x * 0.5 * (1.0 + torch.tanh(C * (x + 0.044715 * torch.pow(x, 3.0)))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "erf-GELU": ("gelu", lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), F.gelu),
    "mish": ("mish", lambda x: x * torch.tanh(F.softplus(x)), F.mish),
    "hardswish": ("hardswish", lambda x: x * F.relu6(x + 3) / 6, F.hardswish),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_one_activation_of_its_layer(written: str, steps: int) -> None:
    name, function, true = WRITTEN[written]
    net, x = Mlp(function), torch.randn(60, 4)
    monitor, report = watch_step(net, x, steps=steps)
    layers = {layer.name: layer for layer in monitor.finder.ordered()}
    assert rows_of(layers) == [("fc", "fc", name, -1, 8), ("head", "head", None, -1, 1)]
    layer = layers["fc"]
    assert (layer.function.name, layer.gate, layer.function.saturates) == (name, False, False)
    z = net.fc(x).detach()
    out = true(z).requires_grad_()
    seen = report["fc"]
    assert float(seen["activation_rows"]) == 60 * steps
    torch.testing.assert_close(seen["preactivation_mean"].float(), z.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen["activation_std"].float(), out.std(0, correction=0), rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(net.head(out).square().mean(), out)
    torch.testing.assert_close(seen["gradient_flow"].float(), gradient.abs().mean(0), rtol=1e-4, atol=1e-7)
    (slope,) = torch.autograd.grad(true(z.requires_grad_()).sum(), z)
    torch.testing.assert_close(seen["slope"].float(), slope.abs().mean(0), rtol=1e-4, atol=1e-5)
    assert report.coverage.unwatched == {}


class Mine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Parts(nn.Module):
    """The same by modules."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    ("name", "module", "true"),
    [
        ("silu", Parts(lambda x, sigmoid: x * sigmoid(x), nn.Sigmoid()), F.silu),
        ("hardswish", Parts(lambda x, relu6: x * (relu6(x + 3) / 6), nn.ReLU6()), F.hardswish),
        ("hardswish", Parts(lambda x, sigmoid: x * sigmoid(x), nn.Hardsigmoid()), F.hardswish),
        ("mish", Parts(lambda x, tanh, softplus: x * tanh(softplus(x)), nn.Tanh(), nn.Softplus()), F.mish),
    ],
)
def test_written_with_modules(name: str, module: nn.Module, true: Function, steps: int) -> None:
    net, x = Mlp(module), torch.randn(60, 4)
    monitor, report = watch_step(net, x, steps=steps)
    assert rows_of({layer.name: layer for layer in monitor.finder.ordered()}) == [
        ("fc", "fc", name, -1, 8),
        ("head", "head", None, -1, 1),
    ]
    assert not monitor.finder.layers["fc"].gate
    assert float(report["fc"]["activation_rows"]) == 60 * steps
    out = true(net.fc(x)).detach()
    torch.testing.assert_close(report["fc"]["activation_std"].float(), out.std(0, correction=0), rtol=1e-4, atol=1e-5)
    assert report.coverage.unwatched == {}


class Excited(nn.Module):
    """One sigmoid module that is a part of SiLU first and a gate then."""

    def __init__(self, sigmoid: Function) -> None:
        super().__init__()
        self.fc, self.squeeze, self.head, self.sigmoid = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1), sigmoid
        nn.init.normal_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc(x)
        a = z * self.sigmoid(z)
        return self.head(a * self.sigmoid(self.squeeze(a)))


@pytest.mark.parametrize("sigmoid", [nn.Sigmoid(), torch.sigmoid], ids=["module", "function"])
def test_what_multiplies_another_tensor_is_a_gate(sigmoid: Function) -> None:
    layers = layers_of(Excited(sigmoid), torch.randn(60, 4), steps=2)
    found = [(name, layer.function.name, layer.gate) for name, layer in layers.items()]
    assert found == [("fc", "silu", False), ("squeeze", "sigmoid", True), ("head", "identity", False)]


def test_behind_a_norm_and_in_a_module_of_its_own() -> None:
    layers = layers_of(Mlp(Mine(), nn.BatchNorm1d(8)), torch.randn(60, 4), steps=2)
    assert rows_of(layers) == [("fc", "fc", "silu", -1, 8), ("head", "head", None, -1, 1)]
    assert layers["fc"].normalized


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_in_other_precisions(dtype: torch.dtype) -> None:
    net = Mlp(WRITTEN["x * sigmoid(x)"][1]).to(dtype)
    assert layers_of(net, torch.randn(60, 4).to(dtype))["fc"].function.name == "silu"


def test_channels() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), Mine(), nn.Conv2d(4, 1, 1))
    nn.init.normal_(net[0].weight)
    assert rows_of(layers_of(net, torch.randn(3, 2, 6, 6), steps=2)) == [
        ("0", "0", "silu", 1, 4),
        ("2", "2", None, 1, 1),
    ]


class Beta(nn.Module):
    """Swish with a slope that is learned, or a gate of its own."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.fc, self.other, self.head = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 1)
        nn.init.normal_(self.fc.weight)
        self.beta, self.way = nn.Parameter(torch.tensor(1.0)), way

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc(x)
        factor = self.beta * z if self.way == "learned" else self.other(x) if self.way == "gate" else z.tanh()
        return self.head(z * torch.sigmoid(factor))


@pytest.mark.parametrize(("way", "function"), [("learned", "sigmoid"), ("gate", "sigmoid"), ("tanh", "tanh")])
def test_what_only_looks_alike_is_none(way: str, function: str) -> None:
    found = [layer.function.name for layer in layers_of(Beta(way), torch.randn(60, 4)).values()]
    assert "silu" not in found
    assert function in found


def test_near_zero_nothing_is_decided_yet() -> None:
    """All activations are alike there; it is known as soon as the numbers tell."""
    net = Mlp(WRITTEN["x * sigmoid(x)"][1])
    weight = net.fc.weight.detach().clone()
    nn.init.zeros_(net.fc.bias)
    nn.init.constant_(net.fc.weight, 1e-3)

    def grow(model: Any, step: int) -> None:
        if model.trainer.current_epoch == 1 and step == 0:
            net.fc.weight.data.copy_(weight)

    health = fit(Learner(net, lr=0.0, at_step=grow), make_data(rows=64), max_epochs=3)
    assert [report["net.fc"].function for report in health.reports] == ["sigmoid", "silu", "silu"]


class Siren(nn.Module):
    """A sine behind its layer; another encodes places."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sin(30.0 * self.fc(x + torch.sin(torch.arange(4.0)))))


@pytest.mark.parametrize("steps", [1, 2])
def test_sine(steps: int) -> None:
    net, x = Siren(), torch.randn(60, 4)
    monitor, report = watch_step(net, x, steps=steps)
    (layer, _) = monitor.finder.ordered()
    assert rows_of({"fc": layer}) == [("fc", "fc", "sine", -1, 8)]
    assert list(report) == ["fc", "head"]
    assert (layer.function.saturates, layer.function.dead_values) == (False, ())
    z = (30 * net.fc(x + torch.sin(torch.arange(4.0)))).detach()
    torch.testing.assert_close(report["fc"]["slope"].float(), z.cos().abs().mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(report["fc"]["activation_std"].float(), z.sin().std(0, correction=0), rtol=1e-3, atol=0)
