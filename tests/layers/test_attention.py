"""The layers of attention and of torch's transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training import layers_of, watch_step


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
