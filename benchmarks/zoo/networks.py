"""The kinds of networks in the zoo; modules have names, so that findings do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def chain(sizes: list[int], act: Activation = nn.ReLU) -> nn.Sequential:
    """fc1, act1, fc2, …, head."""
    parts: list[tuple[str, nn.Module]] = []
    for i, (before, after) in enumerate(pairwise(sizes[:-1]), 1):
        parts += [(f"fc{i}", nn.Linear(before, after)), (f"act{i}", act())]
    return nn.Sequential(OrderedDict([*parts, ("head", nn.Linear(sizes[-2], sizes[-1]))]))


def deep(depth: int, act: Activation, width: int = 40, inputs: int = 20, outputs: int = 5) -> nn.Sequential:
    return chain([inputs, *[width] * depth, outputs], act)


class ConvNet(nn.Module):
    """Convolutions with BatchNorm that share one activation module, in place if that is so made."""

    def __init__(self, act: Activation = lambda: nn.ReLU(inplace=True), width: int = 16, norm: bool = True) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.norm1, self.norm2 = (nn.BatchNorm2d(n) if norm else nn.Identity() for n in (width, 2 * width))
        self.act, self.head = act(), nn.Linear(2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm1(self.conv1(x)))
        return self.head(self.act(self.norm2(self.conv2(x))).mean((2, 3)))


def waves(act: Activation = nn.ReLU, depth: int = 2, width: int = 16) -> nn.Sequential:
    """1-D convolutions: conv1, act1, …, head."""
    parts: list[tuple[str, nn.Module]] = []
    for i in range(1, depth + 1):
        parts += [(f"conv{i}", nn.Conv1d(3 if i == 1 else width, width, 5, padding=2)), (f"act{i}", act())]
    parts += [("pool", nn.AdaptiveMaxPool1d(4)), ("flat", nn.Flatten()), ("head", nn.Linear(4 * width, 4))]
    return nn.Sequential(OrderedDict(parts))


class LastBlock(nn.Module):
    """A ConvNeXt block: depthwise convolution, then (N, H, W, C) through a norm and two Linears."""

    def __init__(self, width: int, act: Activation, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm, self.up, self.act = nn.LayerNorm(width), nn.Linear(width, 3 * width), act()
        self.down, self.gamma = nn.Linear(3 * width, width), nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        h = self.depthwise(x).permute(0, 2, 3, 1)
        return x + (self.gamma * self.down(self.act(self.up(self.norm(h))))).permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    def __init__(self, act: Activation = nn.GELU, width: int = 16, scale: float = 0.5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 2, 2)
        self.block1, self.block2 = LastBlock(width, act, scale), LastBlock(width, act, scale)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.block2(self.block1(self.stem(x))).mean((2, 3))))


class Block(nn.Module):
    """A pre-norm transformer block whose feed-forward part is gated if ``gated``."""

    def __init__(self, width: int, act: Activation, gated: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down, self.act = nn.Linear(width, 2 * width), nn.Linear(2 * width, width), act()
        self.gate = nn.Linear(width, 2 * width) if gated else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, h, key_padding_mask=mask, need_weights=False)[0]
        h = self.norm2(x)
        up = self.act(self.up(h))
        return x + self.down(up if self.gate is None else up * self.gate(h))


class Transformer(nn.Module):
    """Averages over the words that ``mask`` does not hide."""

    def __init__(self, act: Activation = nn.GELU, width: int = 24, gated: bool = False, words: int = 40) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.block1, self.block2 = Block(width, act, gated), Block(width, act, gated)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.norm(self.block2(self.block1(self.embed(x), mask), mask))
        seen = torch.ones_like(x) if mask is None else (~mask).long()
        return self.head((h * seen[..., None]).sum(1) / seen.sum(1, keepdim=True))


class Recurrent(nn.Module):
    """Reads waves step by step; ``fc`` and a ReLU stand between the last state and the head."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, width: int = 24) -> None:
        super().__init__()
        self.rnn, self.fc, self.head = kind(3, width, batch_first=True), nn.Linear(width, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc(self.rnn(x.transpose(1, 2))[0][:, -1])))


class Autoencoder(nn.Module):
    """Images to eight numbers and back."""

    def __init__(self, act: Activation = nn.ReLU, code: Activation = nn.Tanh, cut: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), act(), nn.Linear(48, 8), code())
        self.decoder = nn.Sequential(nn.Linear(8, 48), act(), nn.Linear(48, 64))
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        return self.decoder(code.detach() if self.cut else code).view_as(x)
