"""Compiled code gives the same findings as eager."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Report
from tests.training import Learner, fit, make_data, make_health, make_trainer


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2, self.tanh = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.tanh(self.fc2(self.relu(self.fc1(x))))


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Body()
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def compile_in_place(net: Halves, **options: Any) -> None:
    net.body.compile(**options)


def compile_a_copy(net: Halves, **options: Any) -> None:
    net.body = torch.compile(net.body, **options)


class Graphs(list[torch.fx.GraphModule]):
    """A backend that keeps each graph that is compiled, and runs it as it is."""

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.append(graph)
        return graph.forward


def assert_same_findings(report: Report, expected: Report) -> None:
    assert report.measured == 3
    assert list(report) == list(expected)
    for name, layer in expected.items():
        assert report[name].activation == layer.activation
        assert report[name].keys() == layer.keys()
        for measure in layer:
            torch.testing.assert_close(report[name][measure], layer[measure], rtol=1e-9, atol=1e-12, msg=measure)
    assert set(report.parameters) == set(expected.parameters)
    assert report.coverage == expected.coverage
    assert [str(f) for f in report.findings] == [str(f) for f in expected.findings]


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("compiled", [compile_in_place, compile_a_copy])
def test_compiled_submodule(compiled: Callable[..., None], fullgraph: bool) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    net, graphs = Halves().double(), Graphs()
    plain = copy.deepcopy(net)
    compiled(net, backend=graphs, fullgraph=fullgraph)
    data = make_data(rows=40, dtype=torch.float64)
    expected = fit(plain, data, every_n_steps=2).report
    report = fit(net, data, every_n_steps=2).report

    assert len(graphs) == 1  # the steps that are not measured ran compiled, without a recompilation
    assert list(report) == ["net.body.fc1", "net.body.fc2", "net.head"]
    assert_same_findings(report, expected)


class Attentive(nn.Module):
    """Rows as pairs, which attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 1)
        self.body = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x.view(-1, 2, 4)))).flatten(0, 1)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch's own
def test_compiled_attention() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    net, graphs = Attentive().double(), Graphs()
    plain = copy.deepcopy(net)
    net.body.compile(backend=graphs, fullgraph=True)
    data = make_data(rows=40, dtype=torch.float64)
    expected, report = fit(plain, data, every_n_steps=2).report, fit(net, data, every_n_steps=2).report
    assert len(graphs) == 1
    assert "net.body.self_attn.heads" in report
    assert_same_findings(report, expected)


class Silent(Learner):
    """Its step can be compiled as a whole: it logs nothing."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[1])


class FunctionalHalves(nn.Module):
    """Its activations are functions, so that every measured step is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc2(F.relu(self.fc1(x)))))


@pytest.mark.parametrize("build", [Halves, FunctionalHalves])
@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled_lightning_module(fullgraph: bool, build: type[nn.Module]) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    model, graphs = Silent(build().double()), Graphs()
    plain = copy.deepcopy(model)
    data = make_data(rows=40, dtype=torch.float64)
    expected = fit(plain, data, every_n_steps=2).report
    health = make_health(every_n_steps=2)
    make_trainer(health).fit(torch.compile(model, backend=graphs, fullgraph=fullgraph, dynamic=True), data)
    assert len(graphs) == 1
    assert_same_findings(health.report, expected)
