"""The layers of recurrent networks: torch's modules, cells, and gates written by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.layers.seen import outputs, rows_of
from tests.training import layers_of, watch_step


class Gated(nn.Module):
    """An LSTM written by hand: all gates in one matrix, each a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Linear(7, 12), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[1], 3)
        for now in x:
            write, forget, new, read = self.gates(torch.cat([now, h], 1)).chunk(4, 1)
            c = torch.sigmoid(forget) * c + torch.sigmoid(write) * torch.tanh(new)
            h = torch.sigmoid(read) * torch.tanh(c)
        return self.head(h)


@pytest.mark.parametrize("steps", [1, 2])
def test_gates_of_a_recurrence_written_by_hand(steps: int) -> None:
    net, x = Gated(), torch.randn(2, 30, 4)
    monitor, report = watch_step(net, x, steps=steps)
    assert list(report) == [
        *("gates", "sigmoid", "sigmoid#2", "tanh", "sigmoid#3", "tanh#2"),
        *("gates#2", "sigmoid#4", "sigmoid#5", "tanh#3", "sigmoid#6", "tanh#4"),
        "head",
    ]
    layers = monitor.finder.layers
    assert {name for name, layer in layers.items() if layer.gate} == set(report) - {"gates", "gates#2", "head"}
    assert {layers[name].neurons for name in layers if layers[name].gate} == {3}
    forget = torch.sigmoid(net.gates(torch.cat([x[0], torch.zeros(30, 3)], 1))[:, 3:6])
    torch.testing.assert_close(report["sigmoid"]["activation_mean"], forget.double().mean(0), rtol=1e-6, atol=1e-7)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm, self.gru = nn.Embedding(50, 4), nn.LSTM(4, 6), nn.GRU(6, 5)
        self.head, self.spare = nn.Linear(5, 1), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.lstm(self.words(x))[0])[0])


def test_recurrent_layers_are_watched_at_their_outputs() -> None:
    net, x = Reader(), torch.randint(50, (3, 2))
    assert rows_of(layers_of(net, x)) == [
        ("words", "words", None, -1, 4),
        ("lstm", "lstm", None, -1, 6),
        ("gru", "gru", None, -1, 5),
        ("head", "head", None, -1, 1),
    ]
    _, report = watch_step(net, x)
    assert float(report["lstm"]["activation_rows"]) == 6
    torch.testing.assert_close(
        report["lstm"]["activation_mean"], net.lstm(net.words(x))[0].detach().flatten(0, 1).double().mean(0)
    )


class Last(nn.Module):
    """Reads the last state of a bidirectional network of two layers, not its outputs."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(4, 5, num_layers=2, bidirectional=True, batch_first=True), nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        state = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([state[-2], state[-1]], -1))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layer_of_which_the_last_state_is_read(kind: type[nn.RNNBase]) -> None:
    net, x = Last(kind), torch.randn(3, 6, 4)
    monitor, report = watch_step(net, x)
    assert list(report) == ["rnn", "head"]
    assert report["rnn"]["on_rate"].shape == (10,)
    assert outputs(monitor.finder.layers) == ["head"]
    gradient = 2 * net(x) / 3 * net.head.weight  # of the mean of the squared outputs
    torch.testing.assert_close(report["rnn"]["gradient_flow"].float(), gradient.abs().mean(0).detach())


class Cells(nn.Module):
    """Three recurrent cells over ten steps of time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.rnn = nn.LSTMCell(4, 5), nn.GRUCell(5, 6), nn.RNNCell(6, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = gru = rnn = None
        for now in x:
            state = self.lstm(now, state)
            gru = self.gru(state[0], gru)
            rnn = self.rnn(gru, rnn)
        return self.head(rnn)


def test_recurrent_cells_are_a_layer_a_call() -> None:
    net, x = Cells(), torch.randn(10, 20, 4)
    monitor, report = watch_step(net, x, steps=2)
    assert list(report) == [
        f"{name}#{call}" if call > 1 else name for call in range(1, 11) for name in ("lstm", "gru", "rnn")
    ] + ["head"]
    layers = monitor.finder.layers
    assert [(layers[n].neurons, layers[n].activation, layers[n].owner) for n in ("lstm#10", "gru", "rnn#2")] == [
        (5, None, "lstm"),
        (6, None, "gru"),
        (3, "tanh", "rnn"),
    ]
    assert report.coverage.unwatched == {}
    assert report.coverage.parameters == 1
    first, _ = net.lstm(x[0])
    torch.testing.assert_close(report["lstm"]["on_rate"], (first > 0).double().mean(0))
    assert all((report[name]["gradient_flow"] > 0).all() for name in report)
