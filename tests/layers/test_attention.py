"""The layers of attention and of torch's transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.training import layers_of, watch_step


@pytest.mark.parametrize("activation", ["relu", "gelu", nn.SiLU()])
def test_transformer_layer(activation: Any) -> None:
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True))
    layers = layers_of(net, torch.randn(2, 3, 8), steps=2)
    assert list(layers)[-2:] == ["0.linear1", "0.linear2"]
    assert list(layers)[:2] == ["0.self_attn.heads", "0.self_attn.out_proj"]
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
    assert list(report) == ["fc", "attention.heads", "attention.out_proj", "head"]
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


def heads_by_hand(net: Attentive, x: Tensor) -> tuple[Tensor, Tensor]:
    """What each head gives, ``[batch, time, heads, channels]``, and its gradient."""
    attention, batch_first = net.attention, net.attention.batch_first
    a = net.act(net.fc(x)) if batch_first else net.act(net.fc(x)).transpose(0, 1)
    q, k, v = F.linear(a, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (q, k, v))
    given = ((q @ k.transpose(-1, -2) / 2).softmax(-1) @ v).transpose(1, 2)
    out = net.head(attention.out_proj(given.flatten(2))).square().mean()
    return given.detach(), torch.autograd.grad(out, given)[0]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_each_head_is_a_neuron(batch_first: bool, steps: int) -> None:
    torch.manual_seed(0)
    net, x = Attentive(batch_first).double(), torch.randn(2, 3, 8, dtype=torch.float64)
    _, report = watch_step(net, x, steps=steps, measures="full")
    given, gradient = heads_by_hand(net, x)
    heads = report["attention.heads"]
    assert heads["on_rate"].shape == (2,)
    assert float(heads["activation_rows"]) == 2 * 3 * 4 * steps
    for measure, expected in {
        "activation_mean": given.mean((0, 1, 3)),
        "activation_magnitude": given.abs().mean((0, 1, 3)),
        "gradient_flow": gradient.abs().mean((0, 1, 3)),
        "taylor": (given * gradient).sum(3).abs().mean((0, 1)),
    }.items():
        torch.testing.assert_close(heads[measure], expected, msg=measure)


class Eager(nn.Module):
    """Attention as it is written by hand, with heads that a mask may turn off."""

    def __init__(self, way: str, heads: int = 4) -> None:
        super().__init__()
        self.way, self.heads = way, heads
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.register_buffer("mask", torch.ones(heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        if self.way == "fused":
            given = F.scaled_dot_product_attention(q, k, v)
        else:
            shares = F.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1).type_as(v)
            if self.way == "folded":  # heads beside the samples
                given = torch.bmm(shares.flatten(0, 1), v.flatten(0, 1)).view(v.shape)
            elif self.way == "einsum":
                given = torch.einsum("b h i j, b j h d -> b i h d", shares, v.transpose(1, 2)).transpose(1, 2)
            else:
                given = torch.matmul(F.dropout(shares, 0.0), v)
        return self.out((given * self.mask).transpose(1, 2).contiguous().view(*x.shape))


@pytest.mark.parametrize("way", ["fused", "eager", "folded", "einsum"])
@pytest.mark.parametrize("steps", [1, 3])
def test_attention_by_functions(way: str, steps: int) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(Eager(way), nn.Linear(8, 1)).double(), torch.randn(2, 3, 8, dtype=torch.float64)
    given: list[Tensor] = []
    net[0].out.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].detach()))
    monitor, report = watch_step(net, x, steps=steps)
    assert list(report) == ["0.qkv", "0.heads", "0.out", "1"]
    assert not monitor.finder.tracing
    torch.testing.assert_close(report["0.heads"]["activation_mean"], given[0].unflatten(-1, (4, 2)).mean((0, 1, 3)))
    assert (report["0.heads"]["gradient_flow"] > 0).all()


@pytest.mark.parametrize("way", ["frozen", "checkpoint", "excluded"])
def test_heads_that_cannot_be_seen_are_named(way: str) -> None:
    net, x = Attentive(True), torch.randn(2, 3, 8)
    net.attention.out_proj.requires_grad_(way != "frozen")
    if way == "checkpoint":
        net.forward = lambda x: checkpoint(type(net).forward, net, x, use_reentrant=False)  # type: ignore[method-assign]
    _, report = watch_step(net, x, steps=2, exclude=["*heads"] if way == "excluded" else None)
    (name,) = (name for name in report.coverage.unwatched if name.endswith("heads"))
    assert name not in report
    assert report.coverage.missed[name].startswith("excluded" if way == "excluded" else "seen only where")


def test_heads_behind_a_norm_are_named() -> None:
    net = Eager("fused")
    net.out = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))
    report = watch_step(nn.Sequential(net, nn.Linear(8, 1)), torch.randn(2, 3, 8), steps=2)[1]
    assert "0.heads" not in report
    assert report.coverage.unwatched.keys() == {"0.heads"}
    assert "no Linear reads" in report.coverage.missed["0.heads"]


def test_another_layer_that_reads_them_is_not_counted_again() -> None:
    class Two(Eager):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
            given = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return self.out(given) + self.qkv(given)[..., :8]

    report = watch_step(Two("fused"), torch.randn(2, 3, 8), steps=2)[1]
    assert float(report["heads"]["activation_rows"]) == 2 * 3 * 2 * 2


def test_head_behind_a_mask_is_found() -> None:
    net = nn.Sequential(Eager("fused"), nn.Linear(8, 1))
    net[0].mask[2] = 0
    report = watch_step(net, torch.randn(16, 6, 8), steps=12)[1]
    found = [(f.condition, f.layer, f.neurons) for f in report.findings if f.condition == "dead_neurons"]
    assert found == [("dead_neurons", "0.heads", (2,))]
