"""One finding for a module that is called many times."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.repeats import one_of_each, repeated


class Unrolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.i, self.h, self.tanh, self.head = nn.Linear(2, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 8)
        for now in x.unbind(1):
            h = self.tanh(self.i(now) + self.h(h))
        return self.head(h)


class Cell(Unrolled):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 8)
        for now in x.unbind(1):
            h = self.cell(now, h)
        return self.head(h)


class Sums(nn.Module):
    """A ReLU behind sums, each of which another layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.relu = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        x = self.relu(x + self.a(x))
        y = self.relu(x + self.b(x))
        return self.c(self.relu(x + y))


@pytest.mark.parametrize(
    ("net", "modules"),
    [(Unrolled(), {"i", "h", "tanh"}), (Cell(), {"cell"}), (Sums(), set())],
    ids=["sum", "cell", "shared"],
)
def test_calls_that_do_the_same_work(net: nn.Module, modules: set[str]) -> None:
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        net(torch.rand(4, 5, 2)).sum().backward()
    layers = {layer.name: layer for layer in monitor.finder.ordered()}
    monitor.remove()
    assert repeated(layers) == modules
    found = [Finding("saturation", Severity.WARNING, name, message="stuck") for name in layers]
    assert len(one_of_each(found, layers)) == len(
        {n.partition("#")[0] if n.partition("#")[0] in modules else n for n in layers}
    )


def test_the_worst_speaks_for_all_under_the_name_of_the_module() -> None:
    net = Unrolled()
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        net(torch.rand(4, 5, 2)).sum().backward()
    layers = {layer.name: layer for layer in monitor.finder.ordered()}
    monitor.remove()
    mild = Finding("saturation", Severity.WARNING, "tanh#2", message="mild", since=(0, 10))
    worst = replace(mild, layer="tanh#4", severity=Severity.SERIOUS, message="worst", since=(1, 20))
    other = replace(mild, layer="tanh#5", condition="dead_neurons")
    dead, one = one_of_each([mild, other, worst, replace(mild, layer="tanh#5")], layers)
    assert dead == other
    assert (one.layer, one.severity, one.since) == ("tanh", Severity.SERIOUS, (0, 10))
    assert one.message == "worst; so it is at 2 more calls, 2 to 5"
