"""Signals that vanish, explode or are cut off on their way, and starts that bring it about."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from benchmarks.zoo.data import curve, images, points, sentences, signals
from benchmarks.zoo.networks import Autoencoder, ConvNet, Recurrent, Transformer, chain, deep, waves
from benchmarks.zoo.training import (
    Seen,
    check,
    classify,
    fit,
    gradient,
    of,
    owners,
    rebuild,
    regress,
    scale,
    sgd,
    sick,
    spread,
)

# Activations along the depth


@sick("vanishing_activations")
def vanishing_in_a_deep_tanh() -> Seen:
    net, data = deep(9, nn.Tanh), points()
    scale(*owners(net), std=0.02)
    check(spread(net, net.act9, data[0]) < 1e-5 * spread(net, net.act1, data[0]), "act9 hears nothing")
    return Seen(fit(net, data, optimizer=sgd(1e-3), epochs=4), of(*(f"fc{i}" for i in range(2, 10))))


@sick("vanishing_activations")
def vanishing_waves() -> Seen:
    net, data = waves(nn.GELU, depth=6), signals()
    scale(*owners(net)[:-1], std=0.005)
    check(spread(net, net.act6, data[0], 1) < 1e-5 * spread(net, net.act1, data[0], 1), "act6 hears nothing")
    return Seen(fit(net, data, optimizer=sgd(1e-3), epochs=3), of(*(f"conv{i}" for i in range(2, 7))))


@sick("exploding_activations")
def exploding_in_a_deep_relu() -> Seen:
    net, data = deep(8, nn.ReLU), points()
    scale(*owners(net), std=1.2)
    check(spread(net, net.act8, data[0]) > 1e3 * spread(net, net.act1, data[0]), "act8 shouts")
    return Seen(fit(net, data, optimizer=sgd(1e-14), epochs=4), of(*(f"fc{i}" for i in range(2, 9))))


class Residual(nn.Module):
    """x + W relu(V x), without a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(x)))


@sick("exploding_activations")
def exploding_residuals() -> Seen:
    """Each branch is several times as large as what it is added to."""
    blocks = [Residual(12) for _ in range(6)]
    net, data = nn.Sequential(nn.Conv2d(1, 12, 3), *blocks, nn.Flatten(), nn.Linear(12 * 36, 4)), images()
    for block in blocks:
        scale(block.up, block.down, std=0.6)
    first, last = (spread(net, block.act, data[0], 1) for block in (blocks[0], blocks[-1]))
    check(last > 1e3 * first, "the last branch shouts")
    names = [f"{i}.{part}" for i in range(1, 7) for part in ("up", "down")]
    return Seen(fit(net, data, optimizer=sgd(1e-14), epochs=3), of(*names))


# Gradients


@sick("vanishing_gradients", quick=True)
def vanishing_through_sigmoids() -> Seen:
    net, data = deep(8, nn.Sigmoid), points()
    first, last = (gradient(net, m.weight, classify, data) for m in (net.fc1, net.head))
    check(first < 1e-5 * last, "hardly anything reaches fc1")
    return Seen(fit(net, data, optimizer=sgd(1e-2), epochs=4), of("fc1", "fc2"))


@sick("vanishing_gradients")
def vanishing_through_convolutions() -> Seen:
    net, data = waves(nn.Sigmoid, depth=7), signals()
    first, last = (gradient(net, m.weight, classify, data) for m in (net.conv1, net.head))
    check(first < 1e-5 * last, "hardly anything reaches conv1")
    return Seen(fit(net, data, optimizer=sgd(1e-2), epochs=3), of("conv1", "conv2"))


@sick("exploding_gradients")
def diverging_regression() -> Seen:
    """A network of linear layers far above its largest stable learning rate."""
    net, (x, y) = nn.Sequential(nn.Linear(4, 32), nn.Linear(32, 1)), curve()
    reports = fit(net, (10 * x, y), regress, optimizer=sgd(0.1), epochs=1)
    check(not net[0].weight.isfinite().all(), "the weights have overflowed")
    return Seen(reports)


@sick("exploding_gradients")
def rare_outliers_in_an_autoencoder() -> Seen:
    """One image in 300 is ten thousand times as bright."""
    net, (x, y) = Autoencoder(nn.Tanh, nn.Identity), images()
    x = x.clone()
    x[::300] *= 1e4
    sizes = [gradient(net, net.decoder[2].weight, rebuild, (x[i : i + 16], y)) for i in range(0, len(x), 16)]
    usual = sorted(sizes)[len(sizes) // 2]
    check(sum(size > 100 * usual for size in sizes) >= 5, "some batches have a hundred times the gradient")
    return Seen(fit(net, (x, y), rebuild, optimizer=sgd(1e-12), batch=16, every=1, epochs=3))


@sick("exploding_gradients")
def diverging_recurrence() -> Seen:
    """Plain momentum at a learning rate of 3 and a squared error: norms climb until they overflow."""
    net, (x, y) = Recurrent(nn.RNN), signals()
    net.fc = nn.Linear(24, 32)

    def squared(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return ((net(x) - F.one_hot(y, 4)) ** 2).sum(1).mean()

    reports = fit(net, (x, y), squared, optimizer=sgd(3.0, momentum=0.9), every=1, epochs=1)
    check(not squared(net, x, y).isfinite() or squared(net, x, y) > 1e6, "the loss has exploded")
    return Seen(reports)


# NaN


def at_step(step: int) -> Iterator[bool]:
    return (i == step for i in count())


@sick("non_finite")
def mask_over_everything() -> Seen:
    """At step 41, all words of a sentence are masked: the mean over nothing is NaN."""
    net, data, now = Transformer(), sentences(), at_step(41)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        mask = torch.zeros_like(x, dtype=torch.bool)
        mask[0] = next(now)
        return F.cross_entropy(net(x, mask), y)

    reports = fit(net, data, loss, every=1, epochs=4)
    check(net.block1.up.weight.isnan().any(), "the weights are NaN")
    return Seen(reports, of("head"), first=1)


@sick("non_finite")
def broken_sensor() -> Seen:
    """At step 50, one value is infinite."""
    net, data, now = waves(), signals(), at_step(50)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if next(now):
            x[0, 0, 5] = math.inf
        return classify(net, x, y)

    reports = fit(net, data, loss, every=1, epochs=4)
    check(not net.conv1.weight.isfinite().all(), "the weights are broken")
    return Seen(reports, of("conv1"), first=1)


@sick("non_finite")
def logarithm_of_nothing() -> Seen:
    net, data = ConvNet(), images()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        sure = net(x).softmax(1).gather(1, y[:, None])
        return -(sure * (sure > 0.2)).log().mean()

    reports = fit(net, data, loss, epochs=3)
    check(net.conv1.weight.isnan().any(), "the weights are NaN")
    return Seen(reports)


# Cut off


def unmoved(net: nn.Module, layer: str, *arguments: Any, **options: Any) -> Any:
    weight = net.get_submodule(layer).weight
    before = weight.detach().clone()
    reports = fit(net, *arguments, **options)
    check(torch.equal(weight, before), f"{layer} has not moved")
    return reports


@sick("no_gradient", quick=True)
def detached_code() -> Seen:
    reports = unmoved(Autoencoder(cut=True), "encoder.1", images(), rebuild, epochs=4)
    return Seen(reports, of("encoder.1", "encoder.3"))


@sick("no_gradient")
def block_in_no_optimizer() -> Seen:
    net = Transformer()
    forgotten = {id(p) for p in net.block2.parameters()}

    def choose(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in net.parameters() if id(p) not in forgotten], 2e-3)

    reports = unmoved(net, "block2.up", sentences(), optimizer=choose, epochs=4)
    found = {name.rpartition(".")[0] for name, p in net.named_parameters() if id(p) in forgotten}
    return Seen(reports, of(*found))


class Pair(LightningModule):
    """A generator and a judge, trained by hand; if ``cut``, the generator learns nothing."""

    def __init__(self, cut: bool = False, saturating: bool = False, rates: tuple[float, float] = (2e-3, 5e-4)) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.cut, self.saturating, self.rates = cut, saturating, rates
        self.generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))
        self.judge = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))
        self.sizes: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        generate, judge = self.optimizers()
        fake = self.generator(torch.randn(len(batch[0]), 8))
        self.toggle_optimizer(judge)
        judge.zero_grad()
        self.manual_backward(F.softplus(self.judge(fake.detach())).mean() + F.softplus(-self.judge(batch[0])).mean())
        judge.step()
        self.untoggle_optimizer(judge)
        self.toggle_optimizer(generate)
        verdict = self.judge(fake.detach().requires_grad_() if self.cut else fake)
        generate.zero_grad()
        self.manual_backward(-F.softplus(verdict).mean() if self.saturating else F.softplus(-verdict).mean())
        if not self.cut:
            self.sizes.append(self.generator[0].weight.grad.square().mean().sqrt().item())
        generate.step()
        self.untoggle_optimizer(generate)

    def configure_optimizers(self) -> Any:
        parts = zip((self.generator, self.judge), self.rates, strict=True)
        return [torch.optim.Adam(part.parameters(), lr, betas=(0.5, 0.99)) for part, lr in parts]


@sick("no_gradient")
def generator_cut_off() -> Seen:
    reports = unmoved(Pair(cut=True), "generator.2", images(), epochs=4)
    return Seen(reports, frozenset({"generator.0", "generator.2"}))


@sick("vanishing_gradients")
def starved_generator() -> Seen:
    """A judge that is sure, and the loss that is flat where it is."""
    pair = Pair(saturating=True, rates=(1e-6, 5e-2))
    reports = fit(pair, images(), every=1, epochs=12)
    check(max(pair.sizes[-20:]) < 1e-3 * pair.sizes[0], "the generator starves")
    return Seen(reports, frozenset({"generator.0", "generator.2"}))


# How a network starts


def learns_nothing(net: nn.Module, data: Any, **options: Any) -> Any:
    before = classify(net, *data).item()
    reports = fit(net, data, **options)
    check(classify(net, *data).item() > 0.95 * before, "nothing is learned")
    return reports


@sick("poor_initialization")
def constant_weights() -> Seen:
    net, data = chain([20, 32, 32, 5], nn.Tanh), points()
    for p in net.parameters():
        nn.init.constant_(p, 0.05)
    reports = fit(net, data, epochs=4)
    alike = [torch.allclose(w, w[:1].expand_as(w)) for w in (net.fc1.weight, net.fc2.weight)]
    check(all(alike), "all neurons of a layer are still alike")
    return Seen(reports, of("fc1", "fc2"))


@sick("poor_initialization")
def small_weights_in_deep_convolutions() -> Seen:
    net, data = waves(nn.ReLU, depth=6), signals()
    scale(*owners(net), std=0.015)
    check(spread(net, net.act6, data[0], 1) < 0.01 * spread(net, net.act1, data[0], 1), "a hundredth is left")
    return Seen(learns_nothing(net, data, optimizer=sgd(0.02), epochs=5), of(*(f"conv{i}" for i in range(1, 7))))


@sick("poor_initialization")
def zero_kernels() -> Seen:
    net, data = ConvNet(norm=False), images()
    for module in (net.conv1, net.conv2, net.head):
        scale(module, std=0.0)
    reports = learns_nothing(net, data, epochs=4)
    check(not net.conv1.weight.any(), "conv1 is still zero")
    return Seen(reports, of("conv1", "conv2"))


@sick("poor_initialization")
def one_layer_too_small() -> Seen:
    net, data = deep(4, nn.GELU), points()
    scale(net.fc3, std=1e-4)
    check(spread(net, net.act3, data[0]) < 0.01 * spread(net, net.act2, data[0]), "fc3 passes on a hundredth")
    return Seen(learns_nothing(net, data, optimizer=sgd(0.02), epochs=5), of("fc3"))
