"""Weights that a module of the user's own holds: computed, in lists, of the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.layers.seen import rows_of
from tests.training import layers_of, watch_step


@pytest.mark.parametrize("steps", [1, 2])
def test_model_that_is_a_layer(steps: int) -> None:
    net = nn.Linear(3, 2)
    _, report = watch_step(net, torch.randn(6, 3), steps=steps)
    assert list(report) == ["root"]
    assert float(report["root"]["activation_rows"]) == 6 * steps
    torch.testing.assert_close(report["root"]["weight_norm"], net.weight.detach().double().norm(dim=1))
    assert report.coverage.parameters == 1
    x = torch.randn(6, 3, requires_grad=True)
    assert rows_of(layers_of(nn.Tanh(), x, include=["root"])) == [("root", None, "root", -1, 3)]


class Scaled(nn.Module):
    """Applies what it computes from its weight: scaled for an equal learning rate, masked, or of norm one."""

    def __init__(self, computed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias, self.computed = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.zeros(5)), computed

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.computed(self.weight), self.bias)


@pytest.mark.parametrize(
    "computed",
    [
        lambda w: w * 0.5,
        lambda w: w * torch.ones(5, 4).tril(),
        lambda w: F.normalize(w, dim=1),
        lambda w: (w - w.mean(1, keepdim=True)) / w.std(1, keepdim=True),
        lambda w: w.double().float(),
    ],
    ids=["scaled", "masked", "norm one", "standardized", "cast"],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_weight_that_is_computed_before_a_function_applies_it(computed: Any, steps: int) -> None:
    layers = layers_of(nn.Sequential(Scaled(computed), nn.ReLU(), nn.Linear(5, 1)), torch.randn(6, 4), steps=steps)
    assert rows_of(layers) == [("0", "0", "1", -1, 5), ("2", "2", None, -1, 1)]
    assert (layers["0"].weight, layers["0"].weight_axis, layers["0"].fan_in) == ("0.weight", 0, 4)


class Lists(nn.Module):
    """Its weights lie in torch's containers of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(2, 6))])
        self.more = nn.ParameterDict({"first": nn.Parameter(torch.randn(4, 3))})

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(F.linear(x, self.more["first"]), self.weights[0])), self.weights[1])


@pytest.mark.parametrize("steps", [1, 2])
def test_lists_of_parameters(steps: int) -> None:
    _, report = watch_step(Lists(), torch.randn(6, 3), steps=steps)
    assert report.coverage.unwatched == {}
    assert report.coverage.parameters == 1
    layers = layers_of(Lists(), torch.randn(6, 3), steps=steps)
    assert rows_of(layers) == [
        ("more.first", "more", None, -1, 4),
        ("weights.0", "weights", "tanh", -1, 6),
        ("weights.1", "weights", None, -1, 2),
    ]
    assert [x.weight for x in layers.values()] == ["more.first", "weights.0", "weights.1"]
