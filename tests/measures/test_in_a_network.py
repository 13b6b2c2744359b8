"""Measures of real networks against what plain torch computes from their weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report
from tests.measures.harness import Batches, assert_close

Trace = dict[str, tuple["Tensor | None", Tensor]]
"""Layer to its pre-activation (``None`` where no activation follows) and its activation, in the order of execution."""


class Net(nn.Module):
    """Gives an output, and says in other words what its layers do."""

    shape: tuple[int, ...] = (6,)
    axes: dict[str, int] = {}  # noqa: RUF012  # neuron axis of each layer where it is not the last

    def trace(self, x: Tensor) -> Trace:
        raise NotImplementedError  # each network has its own


class InPlaceAfterNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.act, self.head = (
            nn.Linear(6, 5),
            nn.BatchNorm1d(5),
            nn.ReLU(inplace=True),
            nn.Linear(5, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.norm(self.fc(x))))

    def trace(self, x: Tensor) -> Trace:
        h = x @ self.fc.weight.T + self.fc.bias
        z = (h - h.mean(0)) / (h.var(0, correction=0) + self.norm.eps).sqrt() * self.norm.weight + self.norm.bias
        a = z.clamp_min(0)
        return {"fc": (z, a), "head": (None, a @ self.head.weight.T + self.head.bias)}


class Functional(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc2(F.relu(self.fc1(x)))))

    def trace(self, x: Tensor) -> Trace:
        z1 = x @ self.fc1.weight.T + self.fc1.bias
        a1 = z1.clamp_min(0)
        z2 = a1 @ self.fc2.weight.T + self.fc2.bias
        a2 = 2 / (1 + (-2 * z2).exp()) - 1
        return {"fc1": (z1, a1), "fc2": (z2, a2), "head": (None, a2 @ self.head.weight.T + self.head.bias)}


class SharedActivation(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head, self.relu = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(3, 2), nn.ReLU(True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.fc2(self.relu(self.fc1(x)))))

    def trace(self, x: Tensor) -> Trace:
        z1 = x @ self.fc1.weight.T + self.fc1.bias
        a1 = z1.clamp_min(0)
        z2 = a1 @ self.fc2.weight.T + self.fc2.bias
        a2 = z2.clamp_min(0)
        return {"fc1": (z1, a1), "fc2": (z2, a2), "head": (None, a2 @ self.head.weight.T + self.head.bias)}


class SharedLayer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.head = nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.fc(self.act(self.fc(x)))))

    def trace(self, x: Tensor) -> Trace:
        z1 = x @ self.fc.weight.T + self.fc.bias
        a1 = z1 * torch.special.ndtr(z1)
        z2 = a1 @ self.fc.weight.T + self.fc.bias
        a2 = z2 * torch.special.ndtr(z2)
        return {"fc": (z1, a1), "fc#2": (z2, a2), "head": (None, a2 @ self.head.weight.T + self.head.bias)}


class Images(Net):
    shape = (2, 6, 5)
    axes = {"conv": 1}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(2, 5, 3), nn.ReLU(inplace=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x)).mean((2, 3)))

    def trace(self, x: Tensor) -> Trace:
        patches = x.unfold(2, 3, 1).unfold(3, 3, 1)
        z = torch.einsum("nihwkl,oikl->nohw", patches, self.conv.weight) + self.conv.bias.view(-1, 1, 1)
        a = z.clamp_min(0)
        return {"conv": (z, a), "head": (None, a.mean((2, 3)) @ self.head.weight.T + self.head.bias)}


class Sequences(Net):
    """Channels, then as many time steps."""

    shape = (4, 4)
    axes = {"conv": 1}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv1d(4, 4, 1), nn.Tanh(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x)).mean(2))

    def trace(self, x: Tensor) -> Trace:
        z = torch.einsum("nit,oi->not", x, self.conv.weight[:, :, 0]) + self.conv.bias.view(-1, 1)
        a = z.tanh()
        return {"conv": (z, a), "head": (None, a.mean(2) @ self.head.weight.T + self.head.bias)}


class Tokens(Net):
    """Time steps, then as many features."""

    shape = (4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.head = nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.fc(x)))

    def trace(self, x: Tensor) -> Trace:
        z = torch.einsum("ntd,od->nto", x, self.fc.weight) + self.fc.bias
        a = 1 / (1 + (-z).exp())
        return {"fc": (z, a), "head": (None, a @ self.head.weight.T + self.head.bias)}


class Residual(Net):
    """What the second activation reads is a sum, which no weight owns."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act1, self.fc2, self.act2 = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act2(x + self.fc2(self.act1(self.fc1(x)))))

    def trace(self, x: Tensor) -> Trace:
        z1 = x @ self.fc1.weight.T + self.fc1.bias
        a1 = z1.clamp_min(0)
        branch = a1 @ self.fc2.weight.T + self.fc2.bias
        z2 = x + branch
        a2 = z2.clamp_min(0)
        out = a2 @ self.head.weight.T + self.head.bias
        return {"fc1": (z1, a1), "fc2": (None, branch), "act2": (z2, a2), "head": (None, out)}


@dataclass
class Seen:
    """What a layer did, step by step."""

    z: list[Tensor] = field(default_factory=list)
    a: list[Tensor] = field(default_factory=list)
    g: list[Tensor] = field(default_factory=list)
    slope: list[Tensor] = field(default_factory=list)


def loss_of(out: Tensor) -> Tensor:
    return (out - 1).square().sum() / 10


def follow(net: Net, x: Tensor, seen: dict[str, Seen]) -> None:
    """Add the pre-activations, activations, slopes and gradients of one step."""
    traced = net.trace(x)
    activations = [a for _, a in traced.values()]
    gradients = torch.autograd.grad(loss_of(activations[-1]), activations, retain_graph=True)
    for (name, (z, a)), g in zip(traced.items(), gradients, strict=True):
        entry = seen.setdefault(name, Seen())
        entry.a.append(a)
        entry.g.append(g)
        if z is not None:
            entry.z.append(z)
            entry.slope.append(torch.autograd.grad(a.sum(), z, retain_graph=True)[0])


def train(net: Net, sizes: Sequence[int], monitor: Monitor, measured: Sequence[int] | None = None) -> dict[str, Seen]:
    """Real steps with weights that move; gives what was to be seen at the measured ones."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(1)
    seen: dict[str, Seen] = {}
    for step, rows in enumerate(sizes):
        x = torch.randn(rows, *net.shape, generator=generator).double()
        if measured is None or step in measured:
            follow(copy.deepcopy(net), x, seen)
        optimizer.zero_grad()
        with monitor:
            loss = loss_of(net(x))
            loss.backward()
            monitor.record_loss(loss)
        optimizer.step()
    return seen


def faded_mean(g: list[np.ndarray]) -> np.ndarray:
    weights = [0.9**age for age in reversed(range(len(g)))]
    total = sum(w * abs(batch).sum(0) for w, batch in zip(weights, g, strict=True))
    return np.asarray(total / sum(w * len(batch) for w, batch in zip(weights, g, strict=True)))


def check(report: Report, seen: dict[str, Seen], net: Net) -> None:
    assert list(report) == list(seen)
    for name, entry in seen.items():
        axis = net.axes.get(name, -1)
        z, a, g, slope = (Batches(tuple(t), axis) for t in (entry.z, entry.a, entry.g, entry.slope))
        live = (g.rows != 0).any(1)
        expected = {
            "on_rate": (a.rows > 0).mean(0),
            "zero_rate": (abs(a.rows) <= 1e-8).mean(0),
            "activation_mean": a.rows.mean(0),
            "activation_std": a.rows.std(0),
            "activation_max": a.rows.max(0),
            "gradient_flow": faded_mean(g.by_batch),
            "gradient_pass_rate": (g.rows[live] != 0).mean(0),
            "gradient_variance": g.rows.var(),
        }
        if entry.z:
            expected["preactivation_mean"] = z.rows.mean(0)
            expected["preactivation_std"] = z.rows.std(0)
            expected["slope"] = abs(slope.rows).mean(0)
        else:
            assert "preactivation_mean" not in report[name]
        for measure, value in expected.items():
            assert_close(report[name][measure], value, rtol=1e-9, atol=1e-12)


NETS = [InPlaceAfterNorm, Functional, SharedActivation, SharedLayer, Images, Sequences, Tokens, Residual]


def seeded(kind: type[Net]) -> Net:
    torch.manual_seed(0)
    return kind().double()


@pytest.mark.parametrize("kind", NETS)
def test_every_layer(kind: type[Net]) -> None:
    net = seeded(kind)
    monitor = Monitor(net, every_n_steps=1, window="epoch", measures="full")
    seen = train(net, (7, 2, 13), monitor)
    report = monitor.close()
    monitor.remove()
    assert report is not None
    check(report, seen, net)


def test_only_measured_steps_count() -> None:
    net = seeded(SharedActivation)
    monitor = Monitor(net, every_n_steps=2, window="epoch", measures="full")
    seen = train(net, (7, 1, 13, 4, 2), monitor, measured=(0, 2, 4))
    report = monitor.close()
    assert report is not None
    assert report.measured == 3
    check(report, seen, net)


def test_a_window_forgets_the_one_before_but_for_the_gradient_flow() -> None:
    net = seeded(Tokens)
    monitor = Monitor(net, every_n_steps=1, window=3, measures="full")
    seen = train(net, (7, 1, 13, 2, 9, 4), monitor)
    for name, entry in seen.items():
        rows = Batches(tuple(entry.a[3:])).rows
        assert_close(monitor.reports[1][name]["activation_mean"], rows.mean(0))
        assert_close(monitor.reports[1][name]["activation_rows"], len(rows))
        assert_close(monitor.reports[1][name]["gradient_flow"], faded_mean(Batches(tuple(entry.g)).by_batch))


def test_parameters_and_the_run() -> None:
    net = seeded(Tokens)
    monitor = Monitor(net, every_n_steps=1, window=2, measures="full")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    losses, norms, weights = [], [], []
    for step in range(4):
        optimizer.zero_grad()
        with monitor:
            loss = loss_of(net(torch.full((step + 1, 4, 4), 0.1 * step).double()))
            loss.backward()
            monitor.record_loss(loss)
        losses.append(loss.item())
        norms.append([p.grad.norm().item() for p in net.parameters()])
        weights.append([p.detach().clone() for p in net.parameters()])
        optimizer.step()
    report = monitor.report
    assert report is not None
    assert_close(report.run["train_loss"], losses[2:])
    assert_close(report.run["global_gradient_norm"], np.linalg.norm(norms[2:], axis=1))
    for i, (name, p) in enumerate(net.named_parameters()):
        square = np.mean([step[i] ** 2 for step in norms[2:]])
        assert_close(report.parameters[name]["gradient_norm"], np.sqrt(square))
        assert_close(report.parameters[name]["gradient_rms"], np.sqrt(square / p.numel()))
        assert_close(report.parameters[name]["parameter_change"], (weights[3][i] - weights[1][i]).norm())
    assert report["fc"]["gradient_norm"] == report.parameters["fc.weight"]["gradient_norm"]
