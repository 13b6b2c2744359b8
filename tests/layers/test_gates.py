"""Activations that multiply something else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.layers.seen import outputs, rows_of
from tests.training import layers_of


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
