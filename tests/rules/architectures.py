"""Small networks, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn


def mlp(act: Callable[[], nn.Module] = nn.ReLU, depth: int = 2, width: int = 96, inputs: int = 64) -> nn.Sequential:
    hidden = [m for i in range(depth) for m in (nn.Linear(width if i else inputs, width), act())]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def conv_net(act: Callable[[], nn.Module], norm: bool = False, depth: int = 2, width: int = 16) -> nn.Sequential:
    """Convolutions on 8 × 8 pixels, with or without a BatchNorm before each activation."""
    blocks: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for i in range(depth):
        blocks += [nn.Conv2d(width if i else 1, width, 3, padding=1)]
        blocks += [nn.BatchNorm2d(width)] if norm else []
        blocks += [act()]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


def relu_inplace() -> nn.Module:
    return nn.ReLU(inplace=True)


class Encoder(nn.Module):
    """A transformer that reads the eight rows of a digit; its activation is a function, not a module."""

    def __init__(self, activation: str = "relu") -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation=activation, norm_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x.view(-1, 8, 8))).mean(1))


class Functional(nn.Module):
    """Two hidden layers whose activations are plain functions."""

    def __init__(self, function: Callable[[Tensor], Tensor] = F.relu, width: int = 96) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(64, width), nn.Linear(width, width), nn.Linear(width, 10)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.fc2(self.function(self.fc1(x)))))


class GAN(LightningModule):
    """A generator and a discriminator with an optimizer each, trained by hand."""

    def __init__(
        self,
        saturating: bool = False,
        cut: bool = False,
        rates: tuple[float, float] = (2e-3, 5e-4),
        judge_steps: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.saturating, self.cut, self.rates, self.judge_steps = saturating, cut, rates, judge_steps
        self.generator = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
        self.judge = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        generate, judge = self.optimizers()
        real, noise = batch[0] * 2 - 1, torch.randn(len(batch[0]), 16)
        self.toggle_optimizer(judge)
        for _ in range(self.judge_steps):
            wrong, right = self.judge(self.generator(noise).detach()), self.judge(real)
            judge.zero_grad()
            self.manual_backward(F.softplus(wrong).mean() + F.softplus(-right).mean())
            judge.step()
        self.untoggle_optimizer(judge)
        self.toggle_optimizer(generate)
        fake = self.generator(noise)
        verdict = self.judge(fake.detach().requires_grad_() if self.cut else fake)
        generate.zero_grad()
        self.manual_backward(-F.softplus(verdict).mean() if self.saturating else F.softplus(-verdict).mean())
        generate.step()
        self.untoggle_optimizer(generate)

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(part.parameters(), lr, betas=(0.5, 0.99))
            for part, lr in zip((self.generator, self.judge), self.rates, strict=True)
        ]


def shrunk(net: nn.Module, std: float) -> nn.Module:
    """Weights drawn with another spread, no biases."""
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)
    return net


def biased(net: nn.Module, module: nn.Module, neurons: int, bias: float) -> nn.Module:
    """The first neurons of a module get another bias."""
    with torch.no_grad():
        module.bias[:neurons] = bias
    return net
