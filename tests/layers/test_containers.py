"""Layers that return more than a tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.layers.seen import rows_of
from tests.training import MLP, layers_of, watch_step


@dataclass
class Output:
    mask: Tensor
    logits: Tensor


class Wrapped(nn.Linear):
    """A layer that hands out more than its output."""

    def __init__(self, inputs: int, outputs: int, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__(inputs, outputs)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(super().forward(x))


WRAPS: list[tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = [
    (lambda x: (x, None), lambda out: out[0]),
    (lambda x: {"mask": x > 0, "out": x}, lambda out: out["out"]),
    (lambda x: Output(x > 0, x), lambda out: out.logits),
    (lambda x: [{"nested": (x,)}], lambda out: out[0]["nested"][0]),
]


@pytest.mark.parametrize(("wrap", "unwrap"), WRAPS, ids=["tuple", "dict", "dataclass", "nested"])
def test_layer_that_returns_a_container(wrap: Any, unwrap: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.head = Wrapped(4, 6, wrap), nn.ReLU(), nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(unwrap(self.fc(x))))

    layers = layers_of(Net(), torch.randn(5, 4), steps=2)
    assert rows_of(layers) == [("fc", "fc", "act", -1, 6), ("head", "head", None, -1, 1)]


def test_layer_that_returns_no_tensor_is_listed() -> None:
    class Net(MLP):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = Wrapped(4, 4, lambda x: SimpleNamespace(out=x))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.hidden(x).out)

    _, report = watch_step(Net(), torch.randn(5, 4))
    assert report.coverage.unwatched == {"hidden": "gives a SimpleNamespace without a tensor of numbers"}
