"""The layers of networks with branches, and of those with none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.layers.seen import outputs, rows_of
from tests.training import layers_of, watch_step


def test_sequential() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
    layers = layers_of(net, torch.randn(5, 4))
    assert rows_of(layers) == [("0", "0", "1", -1, 8), ("2", "2", "3", -1, 6), ("4", "4", None, -1, 2)]
    assert [x.function.name for x in layers.values()] == ["relu", "tanh", "identity"]
    assert [x.weight for x in layers.values()] == ["0.weight", "2.weight", "4.weight"]
    assert [x.order for x in layers.values()] == sorted(x.order for x in layers.values())
    assert outputs(layers) == ["4"]


class Joined(nn.Module):
    """Words and patches in one sequence, behind one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.patches, self.act, self.head = nn.Linear(3, 4), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.act(torch.cat([self.words(x), self.patches(y)], 1)))


def test_activation_of_several_layers_side_by_side_has_its_own_name() -> None:
    _, report = watch_step(Joined(), torch.randn(2, 3, 3), torch.randn(2, 6, 5))
    assert list(report) == ["words", "patches", "act", "head"]
    assert [float(report[name]["activation_rows"]) for name in report] == [6, 12, 18, 18]


class Mixture(nn.Module):
    """Each row goes to one expert."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        share, choice = self.router(x).softmax(-1).max(-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows = (choice == i).nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, share[rows, None] * expert(x[rows]))
        return out


def test_experts_count_the_rows_that_they_get() -> None:
    net, x = Mixture(), torch.randn(40, 4)
    _, report = watch_step(net, x)
    choice = net.router(x).argmax(-1)
    assert len(choice.unique()) == 3
    for i, expert in enumerate(net.experts):
        layer = report[f"experts.{i}.0"]
        assert float(layer["activation_rows"]) == (choice == i).sum()
        torch.testing.assert_close(layer["on_rate"], (expert[1](expert[0](x[choice == i])) > 0).double().mean(0))
    assert next(iter(report)) == "router"


class Adapted(nn.Module):
    """A frozen layer and a low-rank correction that begins at zero."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.a = base.requires_grad_(False), nn.Linear(base.in_features, 2, bias=False)
        self.b = nn.Linear(2, base.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"x": self.base(batch["x"]) + self.b(self.a(batch["x"]))}


class Adapters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = Adapted(nn.Linear(4, 8)), nn.ReLU(), Adapted(nn.Linear(8, 3))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.second({"x": self.act(self.first(batch)["x"])})["x"]


def test_adapters_around_frozen_layers() -> None:
    net, x = Adapters(), torch.randn(20, 4)
    monitor, report = watch_step(net, {"x": x}, steps=2)
    assert list(report) == ["first.base", "first.a", "first.b", "act", "second.base", "second.a", "second.b"]
    assert "gradient_flow" not in report["first.base"]  # frozen, on data
    assert all("gradient_flow" in report[name] for name in list(report)[1:])
    assert outputs(monitor.finder.layers) == ["second.base", "second.b"]
    torch.testing.assert_close(report["act"]["on_rate"], (net.first.base(x) > 0).double().mean(0))
    assert (report["first.b"]["activation_std"] == 0).all()
    assert report.coverage.parameters == 1


class Graph(nn.Module):
    """Messages along edges, added up where they arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = nn.Linear(4, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        sent = F.relu(self.message(x))[edges[0]]
        return torch.tanh(self.update(torch.zeros(len(x), 8).index_add(0, edges[1], sent)))


def test_graph_network() -> None:
    net, x, edges = Graph(), torch.randn(9, 4), torch.randint(9, (2, 30))
    monitor, report = watch_step(net, x, edges)
    found = monitor.finder.layers
    assert rows_of(found) == [("message", "message", "relu", -1, 8), ("update", "update", "tanh", -1, 5)]
    assert not found["message"].output  # it is read along the edges
    assert float(report["message"]["activation_rows"]) == 9


@pytest.mark.parametrize(
    "between",
    [
        nn.Identity(),
        nn.Dropout(0.5),
        nn.BatchNorm1d(8),
        nn.LayerNorm(8),
        nn.GroupNorm(2, 8),
        nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.1)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_norm_or_dropout_between_linear_and_activation(between: nn.Module) -> None:
    net = nn.Sequential(nn.Linear(4, 8), between, nn.ReLU(), nn.Linear(8, 1))
    assert rows_of(layers_of(net, torch.randn(6, 4))) == [("0", "0", "2", -1, 8), ("3", "3", None, -1, 1)]


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_neurons_of_an_embedding_are_the_features_of_its_words(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, words = nn.Sequential(kind(7, 4), nn.Linear(4, 3)), torch.randint(7, (8, 5))
    monitor, report = watch_step(net, words)
    assert rows_of(monitor.finder.layers) == [("0", "0", None, -1, 4), ("1", "1", None, -1, 3)]
    assert report.coverage.unwatched == {}
    assert report.coverage.parameters == 1
    out = net[0](words).flatten(0, -2).requires_grad_()
    layer = report["0"]
    torch.testing.assert_close(layer["on_rate"], (out > 0).double().mean(0))
    torch.testing.assert_close(layer["activation_std"], out.detach().double().std(0, correction=0))
    (gradient,) = torch.autograd.grad(net[1](out).square().mean(), out)
    torch.testing.assert_close(layer["gradient_flow"].float(), gradient.abs().mean(0))
    assert "gradient_norm" not in layer  # a step reads few rows of its weight: see report.parameters
    assert report.parameters["0.weight"]["gradient_norm"] > 0
