from __future__ import annotations

import re
import time

import pytest
from torch import Tensor, nn

from lightning_neurohealth.interventions import ablate
from tests.interventions.classified import classes, mlp


class Slow(nn.Module):
    """Takes 5 ms by a clock that nothing else moves."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self.now = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.now += 0.005
        return self.net(x)


@pytest.mark.parametrize("together", [1, 16])
def test_is_what_it_takes(together: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It was eleven times as much where eleven neurons go into one forward."""
    model = Slow()
    monkeypatch.setattr(time, "perf_counter", lambda: model.now)
    found = ablate(model, classes(rows=80), together=together)
    text = capsys.readouterr().out
    said = re.search(r"on 10 batches: about (.*) s", text)
    assert said, text
    assert found.seconds / 2.5 < float(said[1]) < found.seconds * 2.5


def test_of_many_layers_few_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(*(module for _ in range(20) for module in (nn.Linear(4, 4), nn.Tanh())), nn.Linear(4, 3))
    quiet, loud = (ablate(model, classes(rows=8), together=1, progress=wanted) for wanted in (False, True))
    assert loud.forwards == quiet.forwards + 1 + 2 * 3
    assert "Ablating 80 neurons or groups of 20 layers on 1 batches" in capsys.readouterr().out.replace("\n", " ")
