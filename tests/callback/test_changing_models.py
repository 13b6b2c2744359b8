"""Models that call their layers in some steps only."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from tests.callback.numbers import rows
from tests.training import fit, make_data


class Alternating(nn.Module):
    """``side`` is called on every second forward only, from the second one on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.side, self.act, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.fc(x)
        if self.calls % 2 == 0:
            x = x + self.act(self.side(x))
        return self.head(x)


def test_layer_that_is_not_called_in_the_first_step() -> None:
    report = fit(Alternating(), make_data(rows=80)).report
    assert list(report) == ["net.fc", "net.side", "net.head"]
    assert rows(report, "net.fc") == 80
    assert rows(report, "net.side") == 40


class Growing(nn.Module):
    """An activation follows ``fc`` only from the second call on, so that what was a linear layer is none any more."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.head, self.calls = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.act(self.fc(x)) if self.calls > 1 else self.fc(x))


@pytest.mark.parametrize("measures", ["standard", "full"])
def test_layer_that_gets_an_activation_later(measures: str) -> None:
    health = fit(Growing(), measures=measures, max_epochs=2)
    assert list(health.report) == ["net.fc", "net.head"]
    assert health.report["net.fc"].activation == "net.act"
    assert rows(health.report, "net.fc") == 32
