"""Activations that are plain functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from tests.layers.seen import rows_of
from tests.training import MLP, layers_of, watch_step


class Functional(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.fc1, self.fc2, self.function = nn.Linear(4, 8), nn.Linear(8, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.function(self.fc1(x)))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (F.relu, "relu"),
        (torch.relu, "relu"),
        (torch.relu_, "relu"),
        (lambda x: x.relu(), "relu"),
        (lambda x: x.relu_(), "relu"),
        (lambda x: F.relu(input=x, inplace=True), "relu"),
        (lambda x: x.clamp(min=0), "relu"),
        (torch.tanh, "tanh"),
        (F.tanh, "tanh"),
        (F.gelu, "gelu"),
        (lambda x: F.gelu(x, approximate="tanh"), "gelu_tanh"),
        (F.silu, "silu"),
        (torch.sigmoid, "sigmoid"),
        (lambda x: F.leaky_relu(F.dropout(x, 0.1), 0.2), "leaky_relu"),
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_functional_activation(function: Any, name: str, steps: int) -> None:
    layers = layers_of(Functional(function), torch.randn(6, 4), steps=steps)
    assert rows_of(layers) == [("fc1", "fc1", name, -1, 8), ("fc2", "fc2", None, -1, 1)]
    assert layers["fc1"].function.name == name


class FunctionalResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Functional(lambda x: F.relu(x + 1.0))
        self.block.fc2 = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(F.relu(x + self.block(x)) + x)


def test_functional_activation_without_a_weight_is_named_by_its_caller() -> None:
    layers = layers_of(FunctionalResidual(), torch.randn(6, 4))
    assert rows_of(layers) == [
        ("block.fc1", "block.fc1", "relu", -1, 8),
        ("block.fc2", "block.fc2", None, -1, 4),
        ("relu", None, "relu", -1, 4),
        ("tanh", None, "tanh", -1, 4),
    ]


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y: F.relu(1 - y * out),
        lambda out, y: F.relu(1 - out),
        lambda out, y: (out - y).clamp(min=0),
        lambda out, y: torch.tanh(out - y) ** 2,
    ],
    ids=["hinge", "hinge of a critic", "clamped", "tanh"],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_arithmetic_of_a_loss_is_no_layer(loss: Any, steps: int) -> None:
    net, x, y = MLP(), torch.randn(6, 4), torch.ones(6, 1)
    monitor = Monitor(net, every_n_steps=1)
    for _ in range(steps):
        with monitor:
            loss(net(x), y).mean().backward()
    layers = {layer.name: layer.activation for layer in monitor.close().values()}
    monitor.remove()
    assert layers == {"fc1": "act", "fc2": None}


class Split(nn.Module):
    """Both halves of what a weight gives, as in CReLU: the same activation reads it twice."""

    def __init__(self, module: bool) -> None:
        super().__init__()
        self.fc, self.head, self.relu = nn.Linear(4, 6), nn.Linear(12, 1), nn.ReLU() if module else F.relu

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc(x)
        return self.head(torch.cat([self.relu(z), self.relu(-z)], -1))


@pytest.mark.parametrize("module", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_one_weight_with_two_activations(module: bool, steps: int) -> None:
    net, x = Split(module), torch.randn(50, 4)
    monitor, report = watch_step(net, x, steps=steps)
    assert list(report) == ["fc", "relu#2", "head"]
    z = net.fc(x)
    torch.testing.assert_close(report["fc"]["on_rate"], (z > 0).double().mean(0))
    torch.testing.assert_close(report["relu#2"]["on_rate"], (z < 0).double().mean(0))
    assert monitor.finder.layers["relu#2"].owner is None
