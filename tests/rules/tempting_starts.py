"""Healthy runs that begin small, at zero, or where another run has ended."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.architectures import Encoder, conv_net, mlp
from tests.rules.trained import Lit, Trained, X, Y, accuracy, adam, classify, fit, network, regress, sgd


def learn(net: nn.Module, lr: float = 5e-3, steps: int = 200, batch: int = 256) -> None:
    """Train before the watch begins."""
    optimizer = adam(net, lr)
    for _ in range(steps):
        rows = torch.randint(len(X), (batch,))
        optimizer.zero_grad()
        classify(net, X[rows], Y[rows]).backward()
        optimizer.step()


@network
def fine_tuned_gently() -> Trained:
    """AdamW at 1e-5 on a network that has learned all there is."""
    net = mlp(nn.GELU, width=128)
    learn(net)
    reports = fit(Lit(net, lambda net: torch.optim.AdamW(net.parameters(), 1e-5)), every=5, window=40, epochs=10)
    assert accuracy(net) > 0.97
    return Trained(reports)


@network
def fine_tuned_more_gently() -> Trained:
    """Gradient descent at 1e-6 on a transformer that has learned: a thousandth of rounding a step."""
    net = Encoder("gelu")
    learn(net, 3e-3, 150, 128)
    reports = fit(Lit(net, lambda net: sgd(net, 1e-6)), every=5, window="epoch", epochs=6)
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def at_its_floor() -> Trained:
    """Noisy regression by a network that knows all that can be known."""
    net = mlp(nn.Tanh, depth=1)
    y = 5 * X @ torch.randn(64)
    y = (y - y.mean()) / y.std()
    optimizer = adam(net, 5e-3)
    for _ in range(400):
        optimizer.zero_grad()
        regress(net, X, y).backward()
        optimizer.step()
    data = (X, y + 0.5 * torch.randn(len(y)))
    reports = fit(Lit(net, lambda net: adam(net, 1e-4), regress), data=data, every=2, window=30, epochs=8)
    assert regress(net, X, y) < 0.1
    return Trained(reports)


@network
def small_head() -> Trained:
    """A last layer that starts at a thousandth, as policies do: the first steps change it by its own size."""
    net = mlp()
    with torch.no_grad():
        net[4].weight.mul_(1e-3)
    reports = fit(Lit(net, lambda net: adam(net, 3e-3)), every=1, window=10, epochs=4)
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def small_everywhere() -> Trained:
    """Weights of 0.01 and a quick Adam: at first a step is as large as the weights."""
    net = conv_net(nn.ReLU, norm=True)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=0.01)
    reports = fit(Lit(net, lambda net: adam(net, 1.5e-2)), every=1, window=10, epochs=4)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def zero_start() -> Trained:
    """The last layer starts at 0 and labels are mostly wrong: its steps are as large as itself for long."""
    net = mlp(depth=1)
    nn.init.zeros_(net[2].weight)
    y = torch.where(torch.rand(len(Y)) < 0.7, torch.randint(10, (len(Y),)), Y)
    reports = fit(Lit(net, lambda net: adam(net, 2e-3)), data=(X, y), every=1, window=10, epochs=4)
    assert accuracy(net) > 0.6
    return Trained(reports)


@network
def adapter_on_a_converged_network() -> Trained:
    """LoRA on a network that has nothing left to learn."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.a, self.b = nn.Linear(base.in_features, 4, bias=False), nn.Linear(4, base.out_features, bias=False)
            nn.init.zeros_(self.b.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.b(self.a(x))

    net = mlp()
    learn(net)
    net = nn.Sequential(*(Adapted(m) if isinstance(m, nn.Linear) else m for m in net))
    reports = fit(
        Lit(net, lambda net: torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-4)),
        every=2,
        window=30,
        epochs=8,
    )
    assert accuracy(net) > 0.97
    return Trained(reports)


@network
def word_vectors() -> Trained:
    """An embedding of 5,000 words, most of them rare, on text with an order."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.fc, self.head = nn.Embedding(5000, 16), nn.Linear(16, 64), nn.Linear(64, 20)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.fc(self.embed(x))))

    words = (5000 * torch.rand(4000) ** 4).long()
    net = Words()
    reports = fit(Lit(net, lambda net: sgd(net, 0.5)), data=(words, words % 20), every=5, window="epoch", epochs=8)
    assert classify(net, words, words % 20) < 2.5
    return Trained(reports)
