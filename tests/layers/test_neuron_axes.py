"""Where the neurons of a layer lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.layers.seen import rows_of
from tests.training import layers_of, watch_step


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
