"""Weights that plain functions apply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from tests.layers.seen import rows_of
from tests.training import MLP, layers_of, watch_step


class Attention(nn.Module):
    """Weights of its own, used without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.projection))


def test_weight_without_a_module_of_its_own() -> None:
    layers = layers_of(nn.Sequential(Attention(), nn.Linear(6, 1)), torch.randn(3, 4), steps=2)
    assert rows_of(layers) == [("0", "0", "relu", -1, 6), ("1", "1", None, -1, 1)]
    assert layers["0"].weight == "0.projection"


class Applied(nn.Module):
    """Weights of its own, each used by a function."""

    def __init__(self, functions: Sequence[Callable[[Tensor, Tensor], Tensor]], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.functions = functions
        self.weights = [f"w{i}" for i in range(len(shapes))]
        for name, shape in zip(self.weights, shapes, strict=True):
            setattr(self, name, nn.Parameter(torch.randn(shape)))

    def forward(self, x: Tensor) -> Tensor:
        for name, function in zip(self.weights, self.functions, strict=True):
            x = function(x, getattr(self, name))
        return x


@pytest.mark.parametrize(
    ("function", "shape", "axis", "weight_axis", "fan_in"),
    [
        (F.linear, (5, 3), -1, 0, 3),
        (torch.matmul, (3, 5), -1, 1, 3),
        (lambda x, w: x @ w, (3, 5), -1, 1, 3),
        (lambda x, w: torch.einsum("ni,io->no", x, w), (3, 5), -1, 1, 3),
        (lambda x, w: F.conv1d(x[..., None].expand(-1, -1, 4), w), (5, 3, 2), 1, 0, 6),
        (lambda x, w: F.conv_transpose1d(x[..., None], w), (3, 5, 2), 1, 1, 6),
    ],
    ids=["linear", "matmul", "@", "einsum", "conv", "conv_transpose"],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_model_of_functions_alone(
    function: Any, shape: tuple[int, ...], axis: int, weight_axis: int, fan_in: int, steps: int
) -> None:
    net = Applied([lambda x, w: torch.tanh(function(x, w)), lambda x, w: F.linear(x.flatten(1), w)], shape, (2, 5))
    net.w1 = nn.Parameter(torch.randn(2, net.functions[0](torch.randn(1, 3), net.w0).numel()))
    layers = layers_of(net, torch.randn(6, 3), steps=steps)
    assert rows_of(layers) == [("root", "", "tanh", axis, 5), ("root#2", "", None, -1, 2)]
    hidden, out = layers.values()
    assert (hidden.weight, hidden.weight_axis, hidden.fan_in) == ("w0", weight_axis, fan_in)
    assert (out.weight, out.weight_axis) == ("w1", 0)


class Borrowed(nn.Module):
    """Applies the weights of modules that it does not call, as state-space models and tied embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc, self.conv = nn.Embedding(7, 4), nn.Linear(4, 6), nn.Conv1d(6, 6, 2, groups=6)
        self.back = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc.weight @ self.words(x).transpose(1, 2)
        a = F.relu(F.conv1d(F.softplus(z + self.fc.bias[:, None]), self.conv.weight, groups=6))
        return F.linear(torch.tanh(F.linear(a.transpose(1, 2), self.back)), self.words.weight)


@pytest.mark.parametrize("steps", [1, 2])
def test_weights_of_modules_that_are_not_called(steps: int) -> None:
    layers = layers_of(Borrowed(), torch.randint(7, (2, 5)), steps=steps)
    assert rows_of(layers) == [
        ("words", "words", None, -1, 4),
        ("fc", "fc", "softplus", 1, 6),
        ("conv", "conv", "relu", 1, 6),
        ("root", "", "tanh", -1, 4),
        ("words#2", "words", None, -1, 7),
    ]
    facts = [(x.weight, x.weight_axis, x.fan_in) for x in layers.values()][1:]
    assert facts == [("fc.weight", 0, 4), ("conv.weight", 0, 2), ("back", 0, 6), ("words.weight", 0, 4)]


@pytest.mark.parametrize(
    "view", [lambda w: w.T, lambda w: w.transpose(0, 1), lambda w: w[None].squeeze(0).mT], ids=["T", "transpose", "mT"]
)
def test_neurons_of_a_turned_weight(view: Any) -> None:
    net = Applied([lambda x, w: torch.tanh(F.linear(x, view(w))), F.linear], (3, 3), (2, 3))
    hidden, out = layers_of(net, torch.randn(6, 3)).values()
    assert (hidden.weight, hidden.weight_axis) == ("w0", 1)
    assert (out.weight, out.weight_axis) == ("w1", 0)


def test_penalty_on_weights_is_no_layer() -> None:
    net, x = MLP(), torch.randn(6, 4)
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        w = net.fc1.weight
        (net(x).square().mean() + (w @ w.T - torch.eye(8)).relu().mean()).backward()
    report = monitor.close()
    monitor.remove()
    assert {layer.name: layer.activation for layer in report.values()} == {"fc1": "act", "fc2": None}


def test_model_of_functions_alone_has_its_weights_measured() -> None:
    net = Applied([lambda x, w: torch.tanh(x @ w), F.linear], (3, 5), (2, 5))
    _, report = watch_step(net, torch.randn(6, 3), measures=["weight_norm", "gradient_norm"])
    torch.testing.assert_close(report["root"]["weight_norm"], net.w0.detach().double().norm(dim=0))
    torch.testing.assert_close(report["root#2"]["weight_norm"], net.w1.detach().double().norm(dim=1))
    torch.testing.assert_close(report["root#2"]["gradient_norm"].float(), net.w1.grad.norm())
    assert report.coverage.parameters == 1
