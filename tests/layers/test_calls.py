"""Modules that are called twice, late, or by keyword."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from lightning_neurohealth.tracing import patience
from tests.layers.seen import rows_of
from tests.training import MLP, layers_of, watch_step


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x) - self.encoder(-x)


@pytest.mark.parametrize("steps", [1, 2])
def test_siamese_encoder_pools_its_rows(steps: int) -> None:
    net = Siamese()
    monitor, report = watch_step(net, torch.randn(5, 4), steps=steps)
    assert list(report) == ["encoder.0", "encoder.2"]
    assert float(report["encoder.0"]["activation_rows"]) == 10 * steps
    assert [x.activation for x in monitor.finder.ordered()] == ["encoder.1", None]


def test_siamese_encoder_adds_the_rows_of_both_inputs() -> None:
    net, x = Siamese(), torch.randn(5, 4)
    _, report = watch_step(net, x)
    expected = (net.encoder[0](torch.cat([x, -x])) > 0).double().mean(0)
    torch.testing.assert_close(report["encoder.0"]["on_rate"], expected)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Module()
        self.cell.fc, self.cell.act = nn.Linear(4, 4), nn.Tanh()
        self.cell.forward = lambda x: self.cell.act(self.cell.fc(self.cell.act(self.cell.fc(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)


@pytest.mark.parametrize("steps", [1, 2])
def test_module_called_twice_in_a_composite_is_two_layers(steps: int) -> None:
    layers = layers_of(Recurrent(), torch.randn(5, 4), steps=steps)
    assert rows_of(layers) == [
        ("cell.fc", "cell.fc", "cell.act", -1, 4),
        ("cell.fc#2", "cell.fc", "cell.act", -1, 4),
    ]
    assert [x.weight for x in layers.values()] == ["cell.fc.weight"] * 2


def test_model_called_twice_in_a_step_pools_its_rows() -> None:
    net, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(5, 4)
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        (net(x) - net(-x)).sum().backward()
    report = monitor.close()
    monitor.remove()
    assert list(report) == ["0", "2"]
    assert float(report["0"]["activation_rows"]) == 10


class Phases(nn.Module):
    """A part that is first called when training has gone on for long, beside one that never is."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)
        self.late, self.act = nn.Linear(4, 4), nn.ReLU()
        self.grown = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.act(self.late(x)) if self.grown else x


@pytest.mark.parametrize("every", [1, 2])
def test_layer_that_joins_when_tracing_is_over(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 3)
    net = Phases()
    monitor = Monitor(net, every_n_steps=every, window="epoch")
    for step in range(12 * every):
        net.grown = step >= 8 * every and step % 2 == 0
        with monitor:
            net(torch.randn(5, 4)).sum().backward()
        if step == 6 * every:
            assert not monitor.finder.tracing
    report = monitor.close()
    monitor.remove()
    assert {name: layer.activation for name, layer in report.items()} == {"body": None, "late": "act"}
    assert report.coverage.unwatched == {"spare": "never called"}


def test_activation_called_by_keyword() -> None:
    class Keyword(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(self.act(input=self.fc1(x)))

    layers = layers_of(Keyword(), torch.randn(5, 4))
    assert layers["fc1"].activation == "act"
