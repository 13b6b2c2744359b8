"""A strategy that trains what nobody can see: modules that stay idle are named, and the training goes on."""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

from tests.training import MLP, fit


class Hidden(SingleDeviceStrategy):
    """Runs a copy of the network, as an engine may that has modules of its own."""

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        if not hasattr(self, "engine"):
            self.engine = copy.deepcopy(self.lightning_module.net)
        x, y = args[0]
        return F.mse_loss(self.engine(x), y.view(-1, 1).float())


def test_modules_that_a_strategy_hides_are_named() -> None:
    report = fit(MLP(), strategy=Hidden(device="cpu")).report
    assert report is not None
    assert not report.layers
    assert {name: report.coverage.missed[name] for name in ("net.fc1", "net.fc2")} == dict.fromkeys(
        ("net.fc1", "net.fc2"), "never called"
    )
    assert (report.coverage.parameters, report.coverage.shares) == (0.0, {"never called": 1.0})
