"""Modules that cannot be watched are left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training import MLP, watch_step


def test_vmap_is_left_alone() -> None:
    class Mapped(MLP):
        def forward(self, x: Tensor) -> Tensor:
            once = super().forward(x)
            return once + torch.func.vmap(super().forward)(x)

    net = Mapped()
    monitor, report = watch_step(net, torch.randn(10, 4))
    assert monitor.failure is None
    assert float(report["fc1"]["activation_rows"]) == 10
    assert report.coverage.unwatched.keys() == {"fc1#2", "fc2#2"}
    assert "vmap" in report.coverage.missed["fc1#2"]


def test_a_model_that_is_seen_under_vmap_alone_is_named() -> None:
    class Mapped(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return torch.func.vmap(super().forward)(x)

    _, report = watch_step(Mapped(), torch.randn(10, 4))
    assert list(report) == []
    assert all("vmap" in why for why in report.coverage.unwatched.values())
    assert report.coverage.unwatched.keys() == {"fc1", "fc2"}


def test_script_modules_are_left_alone() -> None:
    with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
        scripted = torch.jit.script(nn.Linear(8, 8))
    monitor, report = watch_step(nn.Sequential(MLP(8).fc1, scripted, nn.ReLU(), nn.Linear(8, 1)), torch.randn(10, 4))
    assert monitor.failure is None
    assert {"0", "3"} <= set(report)
    assert report.coverage.unwatched == {"1": "RecursiveScriptModule: the neurons of weight are not watched"}


@pytest.mark.filterwarnings(r"ignore:.*torch\.jit")
def test_a_model_that_is_scripted_as_a_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="ScriptModules take no hooks"):
        watch_step(torch.jit.script(MLP()), torch.randn(10, 4))


def test_outputs_that_are_no_tensors() -> None:
    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), None

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.head = Pair(4, 8), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.pair(x)[0])

    monitor, report = watch_step(Net(), torch.randn(10, 4))
    assert monitor.failure is None
    assert "head" in report
    assert "pair" in {*report, *report.coverage.missed}  # seen, or listed as not seen
