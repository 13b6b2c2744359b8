"""Weights that several layers share, and those that stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.training import MLP, watch_step


class Tied(nn.Module):
    """Input and output embedding are one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.fc, self.act, self.out = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 7, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.fc(self.words(x))))


def test_tied_weights() -> None:
    net = Tied()
    _, report = watch_step(net, torch.randint(7, (3, 5)))
    assert list(report) == ["words", "fc", "out"]
    assert float(report["out"]["activation_rows"]) == 15
    assert report.coverage.parameters == 1
    # its weight is known by the name under which it comes first
    assert report["out"]["gradient_norm"] == report.parameters["words.weight"]["gradient_norm"] > 0


def test_two_layers_with_one_weight() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    net[2].weight = net[0].weight
    _, report = watch_step(net, torch.randn(3, 4))
    assert list(report) == ["0", "2"]
    assert report["0"]["gradient_norm"] == report["2"]["gradient_norm"] > 0
    assert report.coverage.parameters == 1.0


def test_frozen_layer_is_watched_and_its_gradients_are_not() -> None:
    net = MLP()
    net.fc1.requires_grad_(False)
    _, report = watch_step(net, torch.randn(20, 4))
    assert list(report) == ["fc1", "fc2"]
    assert float(report["fc1"]["activation_rows"]) == 20
    assert "gradient_flow" not in report["fc1"]
    assert "gradient_flow" in report["fc2"]


def test_frozen_layer_in_the_middle_passes_gradients() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    net[2].requires_grad_(False)
    _, report = watch_step(net, torch.randn(20, 4))
    assert (report["2"]["gradient_flow"] > 0).all()
    assert (report["0"]["gradient_flow"] > 0).all()
    assert report["2"]["gradient_norm"] == 0
