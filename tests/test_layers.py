"""Which layers are found in a model: who owns the weight, which activation follows, where the neurons lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Monitor, finder
from lightning_neurohealth.layers import Layer, clean_name
from lightning_neurohealth.origins import moved_axis
from tests.training import MLP, layers_of, watch_step


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def rows_of(layers: dict[str, Layer]) -> list[tuple[Any, ...]]:
    """Name, owner, activation, axis and neurons of each layer, in the order of execution."""
    return [(name, x.owner, x.activation, x.axis, x.neurons) for name, x in layers.items()]


def outputs(layers: dict[str, Layer]) -> list[str]:
    return [name for name, layer in layers.items() if layer.output]


# Modules


def test_sequential() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
    layers = layers_of(net, torch.randn(5, 4))
    assert rows_of(layers) == [("0", "0", "1", -1, 8), ("2", "2", "3", -1, 6), ("4", "4", None, -1, 2)]
    assert [x.function.name for x in layers.values()] == ["relu", "tanh", "identity"]
    assert [x.weight for x in layers.values()] == ["0.weight", "2.weight", "4.weight"]
    assert [x.order for x in layers.values()] == sorted(x.order for x in layers.values())
    assert outputs(layers) == ["4"]


class SharedReLU(nn.Module):
    """Like torchvision's ResNet: one in-place ReLU for several widths, each behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        widths = (2, 4, 6, 8)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.relu(norm(conv(x)))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("steps", [1, 3])
def test_one_inplace_relu_for_several_widths(steps: int) -> None:
    layers = layers_of(SharedReLU(), torch.randn(3, 2, 5, 5), steps=steps)
    assert rows_of(layers) == [
        ("convs.0", "convs.0", "relu", 1, 4),
        ("convs.1", "convs.1", "relu", 1, 6),
        ("convs.2", "convs.2", "relu", 1, 8),
        ("head", "head", None, -1, 3),
    ]
    assert outputs(layers) == ["head"]


class Residual(nn.Module):
    """Two blocks in one: a ReLU behind each sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x + self.conv2(self.relu(self.conv1(x))))
        return self.relu(x + self.conv3(x))


def test_relu_behind_a_sum_is_a_layer_of_its_own() -> None:
    layers = layers_of(Residual(), torch.randn(2, 4, 5, 5), steps=2)
    assert rows_of(layers) == [
        ("conv1", "conv1", "relu", 1, 4),
        ("conv2", "conv2", None, 1, 4),
        ("relu#2", None, "relu", 1, 4),
        ("conv3", "conv3", None, 1, 4),
        ("relu#3", None, "relu", 1, 4),
    ]
    assert outputs(layers) == ["relu#3"]


class OneSum(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.relu(x + self.conv1(x)))


def test_activation_without_a_weight_has_its_own_name() -> None:
    layers = layers_of(OneSum(), torch.randn(2, 4, 5, 5))
    assert list(layers) == ["conv1", "relu", "conv3"]
    assert layers["relu"].owner is None
    assert layers["relu"].weight is None
    assert outputs(layers) == ["conv3"]


class TimeAndFeatures(nn.Module):
    """A convolution over time writes (N, C, T), a Linear (N, T, D); shapes do not tell them apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.conv_act = nn.Conv1d(6, 6, 1), nn.ReLU()
        self.linear, self.linear_act = nn.Linear(6, 6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_act(self.conv(x))
        return self.linear_act(self.linear(x.transpose(1, 2))).transpose(1, 2)


def test_time_behind_or_before_the_features() -> None:
    layers = layers_of(TimeAndFeatures(), torch.randn(3, 6, 6))
    assert rows_of(layers) == [("conv", "conv", "conv_act", 1, 6), ("linear", "linear", "linear_act", -1, 6)]


class ChannelsLast(nn.Module):
    """A ConvNeXt block."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.LayerNorm(4)
        self.expand, self.act, self.reduce = nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.reduce(self.act(self.expand(y))).permute(0, 3, 1, 2)


def test_channels_last_block() -> None:
    _, report = watch_step(ChannelsLast(), torch.randn(2, 4, 5, 5))
    layers = layers_of(ChannelsLast(), torch.randn(2, 4, 5, 5))
    assert rows_of(layers) == [
        ("depthwise", "depthwise", None, 1, 4),
        ("expand", "expand", "act", -1, 16),
        ("reduce", "reduce", None, -1, 4),
    ]
    assert float(report["expand"]["activation_rows"]) == 2 * 5 * 5


class Conditioned(nn.Module):
    """A residual block of a diffusion model: an embedding of time is added to every pixel, on either side."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.conv, self.time, self.first = nn.Conv2d(2, 4, 3), nn.Linear(3, 4), first
        self.act, self.out = nn.SiLU(), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, shift = self.conv(x), self.time(t)[..., None, None]
        return self.out(self.act(shift + h if self.first else h + shift))


@pytest.mark.parametrize("first", [True, False])
def test_what_is_broadcast_owns_no_activation(first: bool) -> None:
    layers = layers_of(Conditioned(first), torch.randn(2, 2, 5, 5), torch.randn(2, 3))
    assert rows_of(layers) == [
        ("conv", "conv", "act", 1, 4),
        ("time", "time", None, -1, 4),
        ("out", "out", None, 1, 1),
    ]


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


class UNet(nn.Module):
    """Skips that are concatenated, a transposed convolution, one ReLU for all."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.merge, self.out = (
            nn.ConvTranspose2d(8, 4, 2, 2),
            nn.Conv2d(8, 6, 3, padding=1),
            nn.Conv2d(6, 1, 1),
        )
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.down1(x))
        b = self.relu(self.down2(self.pool(a)))
        return self.out(self.relu(self.merge(torch.cat([self.up(b), a], 1))))


def test_u_net() -> None:
    layers = layers_of(UNet(), torch.randn(2, 1, 8, 8), steps=2)
    assert rows_of(layers) == [
        ("down1", "down1", "relu", 1, 4),
        ("down2", "down2", "relu", 1, 8),
        ("up", "up", None, 1, 4),
        ("merge", "merge", "relu", 1, 6),
        ("out", "out", None, 1, 1),
    ]
    assert layers["up"].weight_axis == 1
    assert layers["merge"].sources == {"up", "down1"}


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


class PermutedBeforeItsActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(4, 6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.linear(x).permute(0, 3, 1, 2))


def test_axis_is_followed_through_a_permutation() -> None:
    layers = layers_of(PermutedBeforeItsActivation(), torch.randn(2, 6, 6, 4))
    assert rows_of(layers) == [("linear", "linear", "act", 1, 6)]


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


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [
        (nn.Conv1d(4, 6, 3), (2, 4, 9), 1),
        (nn.Conv2d(4, 6, 3), (2, 4, 9, 9), 1),
        (nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5), 1),
        (nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 5), 1),
        (nn.Conv2d(4, 6, 3), (4, 9, 9), 0),
        (nn.Linear(4, 6), (4,), -1),
        (nn.Linear(4, 6), (2, 3, 4), -1),
        (nn.Linear(4, 6), (2, 3, 5, 4), -1),
    ],
    ids=lambda value: str(value),
)
def test_neuron_axis_of_each_kind_of_layer(module: nn.Module, shape: tuple[int, ...], axis: int) -> None:
    layers = layers_of(nn.Sequential(module, nn.ReLU()), torch.randn(shape))
    assert rows_of(layers) == [("0", "0", "1", axis, 6)]


def test_unbatched_sample_through_a_linear_counts_one_row() -> None:
    _, report = watch_step(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(4))
    assert float(report["0"]["activation_rows"]) == 1


# Functions


class Functional(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.fc1, self.fc2, self.function = nn.Linear(4, 8), nn.Linear(8, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.function(self.fc1(x)))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (F.relu, "relu"),
        (torch.relu, "relu"),
        (torch.relu_, "relu"),
        (lambda x: x.relu(), "relu"),
        (lambda x: x.relu_(), "relu"),
        (lambda x: F.relu(input=x, inplace=True), "relu"),
        (lambda x: x.clamp(min=0), "relu"),
        (torch.tanh, "tanh"),
        (F.tanh, "tanh"),
        (F.gelu, "gelu"),
        (lambda x: F.gelu(x, approximate="tanh"), "gelu_tanh"),
        (F.silu, "silu"),
        (torch.sigmoid, "sigmoid"),
        (lambda x: F.leaky_relu(F.dropout(x, 0.1), 0.2), "leaky_relu"),
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_functional_activation(function: Any, name: str, steps: int) -> None:
    layers = layers_of(Functional(function), torch.randn(6, 4), steps=steps)
    assert rows_of(layers) == [("fc1", "fc1", name, -1, 8), ("fc2", "fc2", None, -1, 1)]
    assert layers["fc1"].function.name == name


class FunctionalResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Functional(lambda x: F.relu(x + 1.0))
        self.block.fc2 = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(F.relu(x + self.block(x)) + x)


def test_functional_activation_without_a_weight_is_named_by_its_caller() -> None:
    layers = layers_of(FunctionalResidual(), torch.randn(6, 4))
    assert rows_of(layers) == [
        ("block.fc1", "block.fc1", "relu", -1, 8),
        ("block.fc2", "block.fc2", None, -1, 4),
        ("relu", None, "relu", -1, 4),
        ("tanh", None, "tanh", -1, 4),
    ]


@pytest.mark.parametrize("activation", ["relu", "gelu", nn.SiLU()])
def test_transformer_layer(activation: Any) -> None:
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True))
    layers = layers_of(net, torch.randn(2, 3, 8), steps=2)
    assert list(layers)[-2:] == ["0.linear1", "0.linear2"]
    assert next(iter(layers)) == "0.self_attn.out_proj"
    hidden = layers["0.linear1"]
    assert (hidden.axis, hidden.neurons) == (-1, 16)
    assert hidden.function.name == ("silu" if isinstance(activation, nn.Module) else activation)
    assert layers["0.linear2"].activation is None


class Attentive(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.fc, self.act, self.head = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.fc(x))
        return self.head(self.attention(a, a, a)[0])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_attention_is_watched_at_its_output(batch_first: bool, steps: int) -> None:
    torch.manual_seed(0)
    net, x = Attentive(batch_first), torch.randn(2, 3, 8)
    monitor, report = watch_step(net, x, steps=steps)
    assert list(report) == ["fc", "attention.out_proj", "head"]
    layer = monitor.finder.layers["attention.out_proj"]
    assert (layer.axis, layer.neurons, layer.weight) == (-1, 8, "attention.out_proj.weight")
    assert layer.before is None  # heads stand between
    assert not monitor.finder.layers["fc"].output
    a = net.act(net.fc(x))
    out = net.attention(a, a, a)[0].detach().double().flatten(0, 1)
    torch.testing.assert_close(report["attention.out_proj"]["activation_mean"], out.mean(0), rtol=1e-5, atol=1e-6)
    assert float(report["attention.out_proj"]["activation_rows"]) == 6 * steps
    assert (report["attention.out_proj"]["gradient_flow"] > 0).all()
    assert report.coverage.unwatched == {
        "attention": "MultiheadAttention: the neurons of in_proj_weight are not watched"
    }
    assert not monitor.finder.tracing


class SwiGLU(nn.Module):
    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 4)
        self.act = F.silu if functional else nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.gate(x)) * self.up(x))


class Squeezed(nn.Module):
    """Squeeze and excitation: a sigmoid scales what a ReLU gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(2, 6, 3), nn.ReLU()
        self.down, self.up, self.gate = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1), nn.Sigmoid()
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.conv(x))
        return self.head((a * self.gate(self.up(self.relu(self.down(a.mean((2, 3), keepdim=True)))))).mean((2, 3)))


def test_what_a_bounded_gate_multiplies_is_no_gate() -> None:
    layers = layers_of(Squeezed(), torch.randn(3, 2, 6, 6))
    assert rows_of(layers) == [
        ("conv", "conv", "relu", 1, 6),
        ("down", "down", "relu", 1, 2),
        ("up", "up", "gate", 1, 6),
        ("head", "head", None, -1, 1),
    ]
    assert [name for name, layer in layers.items() if layer.gate] == ["up"]


def test_activation_that_a_computed_weight_reads_is_no_gate() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.utils.parametrizations.weight_norm(nn.Linear(5, 1)))
    assert not any(layer.gate for layer in layers_of(net, torch.randn(6, 4)).values())


@pytest.mark.parametrize("functional", [False, True])
def test_gate(functional: bool) -> None:
    layers = layers_of(SwiGLU(functional), torch.randn(6, 4))
    assert list(layers) == ["gate", "up", "down"]
    assert [x.gate for x in layers.values()] == [True, False, False]
    assert layers["gate"].function.name == "silu"


class PackedGate(nn.Module):
    """Gate and value in one matrix; sigmoid as in GLU."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.act, self.down = nn.Linear(4, 16), nn.Sigmoid(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.both(x).chunk(2, dim=-1)
        return self.down(self.act(gate) * value)


def test_gate_that_is_a_part_of_a_matrix() -> None:
    layers = layers_of(PackedGate(), torch.randn(6, 4))
    assert rows_of(layers) == [
        ("both", "both", None, -1, 16),
        ("act", None, "act", -1, 8),
        ("down", "down", None, -1, 4),
    ]
    assert layers["act"].gate
    assert outputs(layers) == ["down"]


class Attention(nn.Module):
    """Weights of its own, used without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.projection))


def test_weight_without_a_module_of_its_own() -> None:
    layers = layers_of(nn.Sequential(Attention(), nn.Linear(6, 1)), torch.randn(3, 4), steps=2)
    assert rows_of(layers) == [("0", "0", "relu", -1, 6), ("1", "1", None, -1, 1)]
    assert layers["0"].weight == "0.projection"


class Applied(nn.Module):
    """Weights of its own, each used by a function."""

    def __init__(self, functions: Sequence[Callable[[Tensor, Tensor], Tensor]], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.functions = functions
        self.weights = [f"w{i}" for i in range(len(shapes))]
        for name, shape in zip(self.weights, shapes, strict=True):
            setattr(self, name, nn.Parameter(torch.randn(shape)))

    def forward(self, x: Tensor) -> Tensor:
        for name, function in zip(self.weights, self.functions, strict=True):
            x = function(x, getattr(self, name))
        return x


@pytest.mark.parametrize(
    ("function", "shape", "axis", "weight_axis", "fan_in"),
    [
        (F.linear, (5, 3), -1, 0, 3),
        (torch.matmul, (3, 5), -1, 1, 3),
        (lambda x, w: x @ w, (3, 5), -1, 1, 3),
        (lambda x, w: torch.einsum("ni,io->no", x, w), (3, 5), -1, 1, 3),
        (lambda x, w: F.conv1d(x[..., None].expand(-1, -1, 4), w), (5, 3, 2), 1, 0, 6),
        (lambda x, w: F.conv_transpose1d(x[..., None], w), (3, 5, 2), 1, 1, 6),
    ],
    ids=["linear", "matmul", "@", "einsum", "conv", "conv_transpose"],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_model_of_functions_alone(
    function: Any, shape: tuple[int, ...], axis: int, weight_axis: int, fan_in: int, steps: int
) -> None:
    net = Applied([lambda x, w: torch.tanh(function(x, w)), lambda x, w: F.linear(x.flatten(1), w)], shape, (2, 5))
    net.w1 = nn.Parameter(torch.randn(2, net.functions[0](torch.randn(1, 3), net.w0).numel()))
    layers = layers_of(net, torch.randn(6, 3), steps=steps)
    assert rows_of(layers) == [("root", "", "tanh", axis, 5), ("root#2", "", None, -1, 2)]
    hidden, out = layers.values()
    assert (hidden.weight, hidden.weight_axis, hidden.fan_in) == ("w0", weight_axis, fan_in)
    assert (out.weight, out.weight_axis) == ("w1", 0)


class Borrowed(nn.Module):
    """Applies the weights of modules that it does not call, as state-space models and tied embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc, self.conv = nn.Embedding(7, 4), nn.Linear(4, 6), nn.Conv1d(6, 6, 2, groups=6)
        self.back = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc.weight @ self.words(x).transpose(1, 2)
        a = F.relu(F.conv1d(F.softplus(z + self.fc.bias[:, None]), self.conv.weight, groups=6))
        return F.linear(torch.tanh(F.linear(a.transpose(1, 2), self.back)), self.words.weight)


@pytest.mark.parametrize("steps", [1, 2])
def test_weights_of_modules_that_are_not_called(steps: int) -> None:
    layers = layers_of(Borrowed(), torch.randint(7, (2, 5)), steps=steps)
    assert rows_of(layers) == [
        ("words", "words", None, -1, 4),
        ("fc", "fc", "softplus", 1, 6),
        ("conv", "conv", "relu", 1, 6),
        ("root", "", "tanh", -1, 4),
        ("words#2", "words", None, -1, 7),
    ]
    facts = [(x.weight, x.weight_axis, x.fan_in) for x in layers.values()][1:]
    assert facts == [("fc.weight", 0, 4), ("conv.weight", 0, 2), ("back", 0, 6), ("words.weight", 0, 4)]


@pytest.mark.parametrize(
    "view", [lambda w: w.T, lambda w: w.transpose(0, 1), lambda w: w[None].squeeze(0).mT], ids=["T", "transpose", "mT"]
)
def test_neurons_of_a_turned_weight(view: Any) -> None:
    net = Applied([lambda x, w: torch.tanh(F.linear(x, view(w))), F.linear], (3, 3), (2, 3))
    hidden, out = layers_of(net, torch.randn(6, 3)).values()
    assert (hidden.weight, hidden.weight_axis) == ("w0", 1)
    assert (out.weight, out.weight_axis) == ("w1", 0)


def test_penalty_on_weights_is_no_layer() -> None:
    net, x = MLP(), torch.randn(6, 4)
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        w = net.fc1.weight
        (net(x).square().mean() + (w @ w.T - torch.eye(8)).relu().mean()).backward()
    report = monitor.close()
    monitor.remove()
    assert {layer.name: layer.activation for layer in report.values()} == {"fc1": "act", "fc2": None}


def test_model_of_functions_alone_has_its_weights_measured() -> None:
    net = Applied([lambda x, w: torch.tanh(x @ w), F.linear], (3, 5), (2, 5))
    _, report = watch_step(net, torch.randn(6, 3), measures=["weight_norm", "gradient_norm"])
    torch.testing.assert_close(report["root"]["weight_norm"], net.w0.detach().double().norm(dim=0))
    torch.testing.assert_close(report["root#2"]["weight_norm"], net.w1.detach().double().norm(dim=1))
    torch.testing.assert_close(report["root#2"]["gradient_norm"].float(), net.w1.grad.norm())
    assert report.coverage.parameters == 1


@pytest.mark.parametrize("steps", [1, 2])
def test_model_that_is_a_layer(steps: int) -> None:
    net = nn.Linear(3, 2)
    _, report = watch_step(net, torch.randn(6, 3), steps=steps)
    assert list(report) == ["root"]
    assert float(report["root"]["activation_rows"]) == 6 * steps
    torch.testing.assert_close(report["root"]["weight_norm"], net.weight.detach().double().norm(dim=1))
    assert report.coverage.parameters == 1
    x = torch.randn(6, 3, requires_grad=True)
    assert rows_of(layers_of(nn.Tanh(), x, include=["root"])) == [("root", None, "root", -1, 3)]


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y: F.relu(1 - y * out),
        lambda out, y: F.relu(1 - out),
        lambda out, y: (out - y).clamp(min=0),
        lambda out, y: torch.tanh(out - y) ** 2,
    ],
    ids=["hinge", "hinge of a critic", "clamped", "tanh"],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_arithmetic_of_a_loss_is_no_layer(loss: Any, steps: int) -> None:
    net, x, y = MLP(), torch.randn(6, 4), torch.ones(6, 1)
    monitor = Monitor(net, every_n_steps=1)
    for _ in range(steps):
        with monitor:
            loss(net(x), y).mean().backward()
    layers = {layer.name: layer.activation for layer in monitor.close().values()}
    monitor.remove()
    assert layers == {"fc1": "act", "fc2": None}


class Scaled(nn.Module):
    """Applies what it computes from its weight: scaled for an equal learning rate, masked, or of norm one."""

    def __init__(self, computed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias, self.computed = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.zeros(5)), computed

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.computed(self.weight), self.bias)


@pytest.mark.parametrize(
    "computed",
    [
        lambda w: w * 0.5,
        lambda w: w * torch.ones(5, 4).tril(),
        lambda w: F.normalize(w, dim=1),
        lambda w: (w - w.mean(1, keepdim=True)) / w.std(1, keepdim=True),
        lambda w: w.double().float(),
    ],
    ids=["scaled", "masked", "norm one", "standardized", "cast"],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_weight_that_is_computed_before_a_function_applies_it(computed: Any, steps: int) -> None:
    layers = layers_of(nn.Sequential(Scaled(computed), nn.ReLU(), nn.Linear(5, 1)), torch.randn(6, 4), steps=steps)
    assert rows_of(layers) == [("0", "0", "1", -1, 5), ("2", "2", None, -1, 1)]
    assert (layers["0"].weight, layers["0"].weight_axis, layers["0"].fan_in) == ("0.weight", 0, 4)


class Lists(nn.Module):
    """Its weights lie in torch's containers of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(2, 6))])
        self.more = nn.ParameterDict({"first": nn.Parameter(torch.randn(4, 3))})

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(F.linear(x, self.more["first"]), self.weights[0])), self.weights[1])


@pytest.mark.parametrize("steps", [1, 2])
def test_lists_of_parameters(steps: int) -> None:
    _, report = watch_step(Lists(), torch.randn(6, 3), steps=steps)
    assert report.coverage.unwatched == {}
    assert report.coverage.parameters == 1
    layers = layers_of(Lists(), torch.randn(6, 3), steps=steps)
    assert rows_of(layers) == [
        ("more.first", "more", None, -1, 4),
        ("weights.0", "weights", "tanh", -1, 6),
        ("weights.1", "weights", None, -1, 2),
    ]
    assert [x.weight for x in layers.values()] == ["more.first", "weights.0", "weights.1"]


class Split(nn.Module):
    """Both halves of what a weight gives, as in CReLU: the same activation reads it twice."""

    def __init__(self, module: bool) -> None:
        super().__init__()
        self.fc, self.head, self.relu = nn.Linear(4, 6), nn.Linear(12, 1), nn.ReLU() if module else F.relu

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc(x)
        return self.head(torch.cat([self.relu(z), self.relu(-z)], -1))


@pytest.mark.parametrize("module", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_one_weight_with_two_activations(module: bool, steps: int) -> None:
    net, x = Split(module), torch.randn(50, 4)
    monitor, report = watch_step(net, x, steps=steps)
    assert list(report) == ["fc", "relu#2", "head"]
    z = net.fc(x)
    torch.testing.assert_close(report["fc"]["on_rate"], (z > 0).double().mean(0))
    torch.testing.assert_close(report["relu#2"]["on_rate"], (z < 0).double().mean(0))
    assert monitor.finder.layers["relu#2"].owner is None


# Calls


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
    monkeypatch.setattr(finder, "PATIENCE", 3)
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


# Weights


class Tied(nn.Module):
    """Input and output embedding are one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.fc, self.act, self.out = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 7, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.fc(self.words(x))))


def test_tied_weights() -> None:
    net = Tied()
    _, report = watch_step(net, torch.randint(7, (3, 5)))
    assert list(report) == ["words", "fc", "out"]
    assert float(report["out"]["activation_rows"]) == 15
    assert report.coverage.parameters == 1
    # its weight is known by the name under which it comes first
    assert report["out"]["gradient_norm"] == report.parameters["words.weight"]["gradient_norm"] > 0


def test_two_layers_with_one_weight() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    net[2].weight = net[0].weight
    _, report = watch_step(net, torch.randn(3, 4))
    assert list(report) == ["0", "2"]
    assert report["0"]["gradient_norm"] == report["2"]["gradient_norm"] > 0
    assert report.coverage.parameters == 1.0


def test_frozen_layer_is_watched_and_its_gradients_are_not() -> None:
    net = MLP()
    net.fc1.requires_grad_(False)
    _, report = watch_step(net, torch.randn(20, 4))
    assert list(report) == ["fc1", "fc2"]
    assert float(report["fc1"]["activation_rows"]) == 20
    assert "gradient_flow" not in report["fc1"]
    assert "gradient_flow" in report["fc2"]


def test_frozen_layer_in_the_middle_passes_gradients() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    net[2].requires_grad_(False)
    _, report = watch_step(net, torch.randn(20, 4))
    assert (report["2"]["gradient_flow"] > 0).all()
    assert (report["0"]["gradient_flow"] > 0).all()
    assert report["2"]["gradient_norm"] == 0


# What is wanted


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"include": ["0"]}, ["0.fc1", "0.fc2"]),
        ({"include": ["*.fc1"]}, ["0.fc1", "1.fc1"]),
        ({"exclude": ["0"]}, ["1.fc1", "1.fc2"]),
        ({"exclude": ["*.fc2"]}, ["0.fc1", "1.fc1"]),
        ({"include": ["1"], "exclude": ["1.fc2"]}, ["1.fc1"]),
    ],
    ids=str,
)
def test_include_and_exclude(choice: dict[str, Any], names: list[str]) -> None:
    first = MLP()
    first.fc2 = nn.Linear(8, 4)
    net, x = nn.Sequential(first, MLP()), torch.randn(5, 4)
    layers = layers_of(net, x, steps=2, **choice)
    assert list(layers) == names
    for name in names:
        assert layers[name].activation == (f"{name[0]}.act" if name.endswith("fc1") else None)
    _, report = watch_step(net, x, **choice)
    assert set(report.coverage.unwatched) == {"0.fc1", "0.fc2", "1.fc1", "1.fc2"} - set(names)
    assert set(report.coverage.unwatched.values()) == {"excluded"}


def test_pattern_that_matches_nothing() -> None:
    with pytest.raises(ValueError, match=r"'encoder\.\*' matches no module of MLP; there are fc1, act, fc2"):
        Monitor(MLP(), include=["encoder.*"])


def test_patterns_that_leave_nothing() -> None:
    with pytest.raises(ValueError, match="include and exclude leave none"):
        Monitor(MLP(), exclude=["*"])


def test_model_without_layers() -> None:
    with pytest.raises(ValueError, match="Sequential has no layer to watch"):
        Monitor(nn.Sequential(nn.LayerNorm(3)))


# What could not be seen


def test_activation_called_by_keyword() -> None:
    class Keyword(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(self.act(input=self.fc1(x)))

    layers = layers_of(Keyword(), torch.randn(5, 4))
    assert layers["fc1"].activation == "act"


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


@dataclass
class Output:
    mask: Tensor
    logits: Tensor


class Wrapped(nn.Linear):
    """A layer that hands out more than its output."""

    def __init__(self, inputs: int, outputs: int, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__(inputs, outputs)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(super().forward(x))


WRAPS: list[tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = [
    (lambda x: (x, None), lambda out: out[0]),
    (lambda x: {"mask": x > 0, "out": x}, lambda out: out["out"]),
    (lambda x: Output(x > 0, x), lambda out: out.logits),
    (lambda x: [{"nested": (x,)}], lambda out: out[0]["nested"][0]),
]


@pytest.mark.parametrize(("wrap", "unwrap"), WRAPS, ids=["tuple", "dict", "dataclass", "nested"])
def test_layer_that_returns_a_container(wrap: Any, unwrap: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.head = Wrapped(4, 6, wrap), nn.ReLU(), nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(unwrap(self.fc(x))))

    layers = layers_of(Net(), torch.randn(5, 4), steps=2)
    assert rows_of(layers) == [("fc", "fc", "act", -1, 6), ("head", "head", None, -1, 1)]


def test_layer_that_returns_no_tensor_is_listed() -> None:
    class Net(MLP):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = Wrapped(4, 4, lambda x: SimpleNamespace(out=x))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.hidden(x).out)

    _, report = watch_step(Net(), torch.randn(5, 4))
    assert report.coverage.unwatched == {"hidden": "gives a SimpleNamespace without a tensor of numbers"}


def test_modules_that_are_no_layers_are_listed() -> None:
    _, report = watch_step(Reader(), torch.randint(50, (3, 2)))
    assert report.coverage.unwatched == {"spare": "never called"}
    assert report.coverage.parameters == pytest.approx(1 - 6 / sum(p.numel() for p in Reader().parameters()))


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


# Names and axes


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("net._orig_mod.fc", "net.fc"),
        ("_orig_mod", ""),
        ("_fsdp_wrapped_module._checkpoint_wrapped_module.a.0", "a.0"),
        ("a._orig_mod", "a"),
        ("my_orig_mod.a", "my_orig_mod.a"),
    ],
)
def test_clean_name(name: str, clean: str) -> None:
    assert clean_name(name) == clean


SHAPE = (2, 3, 4, 5)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("permute", (0, 3, 1, 2), {}),
    ("permute", ((0, 3, 1, 2),), {}),
    ("transpose", (1, -1), {}),
    ("swapaxes", (0, 2), {}),
    ("movedim", (1, -1), {}),
    ("transpose", (), {"dim0": 1, "dim1": 2}),
    ("mT", (), {}),
    ("flatten", (1, 2), {}),
    ("flatten", (0, 1), {}),
    ("flatten", (2,), {}),
    ("flatten", (1,), {}),
    ("unsqueeze", (0,), {}),
    ("unsqueeze", (-1,), {}),
    ("mean", (1,), {}),
    ("mean", ((2, 3),), {}),
    ("contiguous", (), {}),
    ("reshape", (-1, 5), {}),
    ("view", (2, 3, 20), {}),
    ("view", (2, 3, 4, 5, 1), {}),
]


def call_with_index(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], axis: int
) -> tuple[int | None, int | None]:
    """What we say of ``axis`` after a call, and what is true: each entry holds its own index on it."""
    index = [torch.arange(SHAPE[axis], dtype=torch.float32).view([-1 if i == axis else 1 for i in range(4)])]
    x = index[0].expand(SHAPE).contiguous()
    method = getattr(x, name)
    out = method if isinstance(method, Tensor) else method(*args, **kwargs)
    true = None
    for i, size in enumerate(out.shape):
        like = index[0].view([-1 if j == i else 1 for j in range(out.dim())])
        if size == SHAPE[axis] and torch.equal(out, like.expand_as(out)):
            true = i
    return moved_axis(name, args, kwargs, x, out, axis), true


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=str)
def test_moved_axis_is_right_or_not_known(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], axis: int) -> None:
    said, true = call_with_index(name, args, kwargs, axis)
    assert said in (None, true)


@pytest.mark.parametrize(
    ("call", "axis", "moved"),
    [
        (CALLS[0], 1, 2),
        (CALLS[1], 3, 1),
        (CALLS[2], 1, 3),
        (CALLS[3], 2, 0),
        (CALLS[4], 1, 3),
        (CALLS[5], 1, 2),
        (CALLS[6], 2, 3),
        (("flatten", (2,), {}), 1, 1),
        (("flatten", (0, 1), {}), 3, 2),
        (("flatten", (1,), {}), 1, None),
        (("mean", ((2, 3),), {}), 1, 1),
        (("mean", (1,), {}), 3, 2),
        (("reshape", (-1, 5), {}), 3, 1),
    ],
    ids=str,
)
def test_moved_axis_where_networks_need_it(call: Any, axis: int, moved: int | None) -> None:
    assert call_with_index(*call, axis) == (moved, moved)
