"""What could not be seen is listed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.layers.test_recurrence import Reader
from tests.training import watch_step


def test_modules_that_are_no_layers_are_listed() -> None:
    _, report = watch_step(Reader(), torch.randint(50, (3, 2)))
    assert report.coverage.unwatched == {"spare": "never called"}
    assert report.coverage.parameters == pytest.approx(1 - 6 / sum(p.numel() for p in Reader().parameters()))


def test_layer_that_changes_its_width_is_listed() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.width = nn.Linear(4, 8), nn.ReLU(), 8

        def forward(self, x: Tensor) -> Tensor:
            self.width -= 2
            return self.act(self.fc(x)[..., : self.width] + x[..., :1])

    _, report = watch_step(Cut(), torch.randn(5, 4), steps=3)
    assert "fc" in report
    assert any("width" in why for why in report.coverage.missed.values())
