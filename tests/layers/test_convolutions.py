"""The layers of convolutional networks: shared ReLUs, sums, skips."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from tests.layers.seen import outputs, rows_of
from tests.training import layers_of


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


class Unequal(nn.Module):
    """Reads one image, or a batch of them."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.linear, self.conv = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1)
        self.act = F.relu if functional else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(self.linear(x)))


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("batched_first", [False, True])
def test_channels_of_one_image_and_of_a_batch(batched_first: bool, functional: bool) -> None:
    """Four images of four channels: a batch that is taken for the channels does not show in a shape."""
    torch.manual_seed(0)
    net, images = Unequal(functional).double(), torch.randn(4, 2, 6, 6, dtype=torch.float64)
    batches = [images[0], images] if not batched_first else [images, images[0]]
    monitor = Monitor(net, every_n_steps=1, measures="full")
    for x in [*batches, *batches]:
        with monitor:
            net(x).square().mean().backward()
    report = monitor.close()
    monitor.remove()
    assert report is not None
    rows = torch.cat([images, images[:1]])
    for name, out in (("linear", net.linear(rows)), ("conv", net.act(net.conv(net.linear(rows))))):
        torch.testing.assert_close(report[name]["activation_mean"], out.detach().mean((0, 2, 3)))
        assert float(report[name]["activation_rows"]) == 2 * out[:, 0].numel()
        assert report[name]["taylor"].shape == (4,)
    assert report.coverage.unwatched == {}
