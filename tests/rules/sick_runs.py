"""Runs that are sick as a whole: rates far off, nothing to learn, too much learned. Each fault is checked by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import NeuronHealth, Report, Severity
from tests.rules import trained
from tests.rules.architectures import Encoder, biased, conv_net, mlp
from tests.rules.trained import (
    MEASURES,
    RULES,
    Lit,
    Trained,
    X,
    Y,
    accuracy,
    adam,
    classify,
    fit,
    network,
    never_positive,
    regress,
    sgd,
    train,
    written_by,
)
from tests.training import make_trainer

SERIOUS, CRITICAL = Severity.SERIOUS, Severity.CRITICAL
CHANCE = torch.tensor(10.0).log().item()
"""Cross-entropy of ten classes without a clue."""


class Validated(Lit):
    """Logs the loss of its validation, as users do."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss(self.net, *batch))


def fit_validated(
    module: Validated, data: Any, validation: Any, *, batch: int = 50, epochs: int = 20, every: int = 5, **options: Any
) -> list[Report]:
    """One window and one evaluation an epoch."""
    health = NeuronHealth(every_n_steps=every, measures=MEASURES, rules=RULES, sinks=[])
    make_trainer(health, max_epochs=epochs, **options).fit(
        module, DataLoader(TensorDataset(*data), batch, shuffle=True), DataLoader(TensorDataset(*validation), 500)
    )
    return health.reports


def sizes(net: nn.Module) -> Tensor:
    """Norm of each matrix."""
    return torch.stack([p.detach().norm() for p in net.parameters() if p.dim() > 1])


def first_step(net: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """‖ΔW‖ / ‖W‖ of the first step over all of the data, median over matrices; the network is as before after it."""
    before = [p.detach().clone() for p in net.parameters()]
    classify(net, X, Y).backward()
    optimizer.step()
    with torch.no_grad():
        pairs = list(zip(net.parameters(), before, strict=True))
        ratio = torch.stack([(p - old).norm() / old.norm() for p, old in pairs if p.dim() > 1]).median()
        for p, old in pairs:
            p.copy_(old)
    net.zero_grad()
    return ratio.item()


# Rates too high


@network
def adam_a_thousand_times_too_fast() -> Trained:
    net = mlp()
    assert first_step(net, adam(net, 1.0)) > 1
    reports = fit(Lit(net, lambda net: adam(net, 1.0)), every=10, epochs=4)
    assert accuracy(net) < 0.5
    return Trained(reports)


@network
def adam_in_a_transformer() -> Trained:
    net = Encoder("gelu")
    assert first_step(net, adam(net, 0.3)) > 1
    reports = fit(Lit(net, lambda net: adam(net, 0.3)), every=5, window="epoch", epochs=5)
    assert accuracy(net) < 0.5
    return Trained(reports)


@network
def gradient_descent_that_kills() -> Trained:
    """The first steps throw the weights so far that nothing fires any more; then all is quiet."""
    net = mlp()
    before = sizes(net)
    reports = fit(Lit(net, lambda net: sgd(net, 30.0)), every=10, epochs=5)
    assert accuracy(net) < 0.3
    assert (sizes(net) > 5 * before).float().mean() > 0.5
    return Trained(reports)


@network
def convolutions_thrown_about() -> Trained:
    net = conv_net(nn.SiLU)
    assert first_step(net, adam(net, 0.5)) > 1
    reports = train(net, optimizer=adam(net, 0.5), steps=120)
    assert accuracy(net) < 0.5
    return Trained(reports)


@network
def thrown_away_later() -> Trained:
    """Well at first; after step 60 the learning rate is 500 times as large."""
    net = mlp(nn.Tanh)
    reports = train(net, rate=lambda step: 1.0 if step < 60 else 500.0, steps=160)
    assert accuracy(net) < 0.5
    return Trained(reports)


# Rates too low, nothing to learn


@network
def adam_that_stands_still() -> Trained:
    net = mlp()
    before = sizes(net)
    reports = fit(Lit(net, lambda net: adam(net, 1e-9)), every=10, window=30, epochs=7)
    assert torch.allclose(sizes(net), before, rtol=1e-6)
    return Trained(reports)


@network
def convolutions_that_stand_still() -> Trained:
    net = conv_net(nn.ReLU, norm=True)
    before = sizes(net)
    reports = fit(Lit(net, lambda net: sgd(net, 1e-9)), every=5, window="epoch", epochs=6, batch=90)
    assert torch.allclose(sizes(net), before, rtol=1e-6)
    return Trained(reports)


@network
def transformer_that_stands_still() -> Trained:
    net = Encoder()
    before = sizes(net)
    reports = train(net, optimizer=torch.optim.AdamW(net.parameters(), 1e-9), steps=160, window=40, every=4)
    assert torch.allclose(sizes(net), before, rtol=1e-6)
    return Trained(reports)


def shuffled(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Labels that are others at every step."""
    return F.cross_entropy(net(x), torch.randint(10, (len(x),)))


@network
def labels_drawn_by_lot() -> Trained:
    net = mlp()
    reports = fit(Lit(net, lambda net: adam(net, 1e-3), shuffled), every=1, window=30, epochs=10)
    assert accuracy(net) < 0.3
    assert abs(classify(net, X, Y) - CHANCE) < 0.3
    return Trained(reports)


@network
def noise_for_a_conv_net() -> Trained:
    net = conv_net(nn.ReLU, norm=True)
    reports = fit(Lit(net, lambda net: sgd(net, 0.05), shuffled), every=2, window="epoch", epochs=8, batch=90)
    assert accuracy(net) < 0.3
    return Trained(reports)


@network
def targets_of_noise() -> Trained:
    """Regression on numbers that have nothing to do with the input, new ones at every step."""
    net = mlp(nn.Tanh, depth=1)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(net(x)[:, 0], 3 * torch.randn(len(x)))

    reports = train(net, loss, steps=700, window=50, every=2)
    assert written_by(net, net[2])[:, 0].var() < 1
    return Trained(reports)


@network
def shuffled_labels_on_frozen_features() -> Trained:
    net = mlp()
    net[:4].requires_grad_(False)
    y = Y[torch.randperm(len(Y))]
    reports = fit(
        Lit(net, lambda net: torch.optim.Adam(net[4].parameters(), 1e-3)), data=(X, y), every=5, window=40, epochs=9
    )
    assert classify(net, X, y) > 0.95 * CHANCE
    return Trained(reports)


@network
def dead_from_the_start() -> Trained:
    """No neuron of the first layer ever fires: the network says the same of every digit."""
    net = mlp(depth=1)
    biased(net, net[0], 96, -20.0)
    reports = fit(Lit(net, lambda net: adam(net, 1e-3)), every=5, window=40, epochs=9)
    assert len(never_positive(written_by(net, net[0]))) == 96
    return Trained(reports, "0")


@network
def rate_of_nought() -> Trained:
    net = conv_net(nn.ReLU)
    reports = fit(Lit(net, lambda net: sgd(net, 0.0)), every=5, window="epoch", epochs=6, batch=60)
    return Trained(reports)


# Too much learned


def split(train: int, noise: float = 0.0) -> tuple[Any, Any]:
    """The first digits with some wrong labels, and the last ones."""
    order = torch.randperm(len(X))
    mine, other = order[:train], order[-500:]
    y = Y.clone()
    wrong = mine[torch.rand(train) < noise]
    y[wrong] = torch.randint(10, (len(wrong),))
    return (X[mine], y[mine]), (X[other], Y[other])


@network
def learned_by_heart() -> Trained:
    net, (mine, other) = mlp(width=256), split(200, noise=0.3)
    reports = fit_validated(Validated(net, lambda net: adam(net, 3e-3)), mine, other, epochs=40)
    assert classify(net, *mine) < 0.2
    assert classify(net, *other) > 1
    return Trained(reports)


@network
def transformer_by_heart() -> Trained:
    net, (mine, other) = Encoder("gelu"), split(150, noise=0.4)
    reports = fit_validated(Validated(net, lambda net: adam(net, 5e-3)), mine, other, epochs=36, batch=75, every=2)
    assert classify(net, *mine) < 0.8
    assert classify(net, *other) > 1.5
    return Trained(reports)


@network
def noise_by_heart() -> Trained:
    """Regression: the targets of 100 digits are mostly noise."""
    net = mlp(depth=2, width=256)
    truth = X @ torch.randn(64)
    targets = truth / truth.std() + torch.randn(len(X))
    data = (X, targets - targets.mean())
    mine, other = [t[:100] for t in data], [t[-500:] for t in data]
    reports = fit_validated(Validated(net, lambda net: adam(net, 3e-3), regress), mine, other, epochs=60)
    assert regress(net, *mine) < 0.2
    return Trained(reports)


# Steps that stand out, learning that ends


def spoiled(at: int, spoil: Callable[[Tensor], Tensor]) -> trained.Loss:
    """One batch of the run is spoiled."""
    step = iter(range(10**6))

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return classify(net, spoil(x) if next(step) == at else x, y)

    return loss


@network
def one_bad_batch() -> Trained:
    net = mlp()
    return Trained(train(net, spoiled(130, lambda x: 100 * x), steps=160, every=5))


@network
def bad_batch_for_a_transformer() -> Trained:
    net = Encoder()
    loss = spoiled(170, lambda x: -30 * x)
    return Trained(fit(Lit(net, lambda net: adam(net, 2e-3), loss), every=10, window="epoch", epochs=8))


@network
def frozen_half_way() -> Trained:
    """From step 100 on nothing is trained any more, at a learning rate that has not changed."""
    net = mlp()
    step = iter(range(10**6))

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        value = classify(net, x, y)
        return value if next(step) < 60 else 0 * value + value.detach()

    return Trained(fit(Lit(net, lambda net: sgd(net, 0.3), loss), every=5, window=30, epochs=12))


@network
def held_up_by_its_rate() -> Trained:
    """Steps too large for a linear regression to settle on its noise, of variance 0.25."""
    net, x = nn.Sequential(nn.Linear(16, 1)), torch.randn(512, 16)
    data = (x, x @ torch.randn(16) / 1.5 + 0.5 * torch.randn(512))
    reports = fit(Lit(net, lambda net: sgd(net, 0.1), regress), data=data, batch=16, every=5, window="epoch", epochs=9)
    assert reports[-1].run["train_loss"].mean() > 0.25 * 1.1
    return Trained(reports)
