"""Neurons that are dead, dormant, stuck or copies, and weights that are zero."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.data import curve, images, points, sentences, signals
from benchmarks.zoo.networks import Autoencoder, ChannelsLast, ConvNet, Transformer, chain, deep, waves
from benchmarks.zoo.training import (
    Seen,
    Severity,
    adam,
    check,
    fit,
    of,
    rebuild,
    regress,
    scale,
    sgd,
    shift,
    sick,
    written_by,
)

WARNING = Severity.WARNING

# Dead: never above 0 on all of the data


def dead(z: Tensor) -> int:
    return int((z.amax(0) <= 0).sum())


@sick("dead_neurons", quick=True)
def dead_by_bias_in_an_mlp() -> Seen:
    net, data = chain([20, 64, 64, 5]), points()
    shift(net.fc2, 32, -25.0)
    reports = fit(net, data)
    check(dead(written_by(net, net.fc2, data[0])) >= 32, "half of fc2 never fires")
    return Seen(reports, of("fc2"))


@sick("dead_neurons")
def dead_channels_behind_a_shared_activation() -> Seen:
    net, data = ConvNet(), images()
    shift(net.norm2, 14, -12.0)
    reports = fit(net, data, epochs=4)
    check(dead(written_by(net.train(), net.norm2, data[0], 1)) >= 14, "14 of 32 channels never fire")
    return Seen(reports, of("conv2"))


@sick("dead_neurons")
def dead_in_a_channels_last_block() -> Seen:
    net, data = ChannelsLast(nn.ReLU), images()
    shift(net.block1.up, 24, -25.0)
    reports = fit(net, data, epochs=4)
    check(dead(written_by(net, net.block1.up, data[0])) >= 24, "half of the block never fires")
    return Seen(reports, of("block1.up"))


@sick("dead_neurons")
def killed_by_the_learning_rate() -> Seen:
    """Well for four epochs, then four steps at 500 times the learning rate."""
    net, data = Autoencoder(), images()
    reports = fit(net, data, rebuild, rate=lambda step: 500.0 if 128 <= step < 132 else 1.0, epochs=8)
    check(dead(written_by(net, net.decoder[0], data[0])) > 24, "more than half of the decoder never fires")
    return Seen(reports, of("decoder.0"), first=4)


# Dormant: under 2.5 % of the mean activity of the layer, and not dead


def dormant(a: Tensor) -> int:
    size = a.abs().mean(0)
    return int(((size <= 0.025 * size.mean()) & (a.abs().amax(0) > 0)).sum())


@sick("dormant_neurons")
def dormant_in_an_mlp() -> Seen:
    net, data = chain([20, 60, 5], nn.ReLU), points()
    with torch.no_grad():
        net.fc1.weight[:25] *= 1e-3
        net.fc1.bias[:25] = 1e-4
    reports = fit(net, data, optimizer=sgd(1e-4))
    check(dormant(written_by(net, net.act1, data[0])) >= 20, "a third of fc1 hardly speaks")
    return Seen(reports, of("fc1"))


@sick("dormant_neurons")
def dormant_channels_of_waves() -> Seen:
    net, data = waves(nn.ELU, width=24), signals()
    with torch.no_grad():
        net.conv2.weight[:10] *= 1e-4
        net.conv2.bias[:10] *= 1e-4
    reports = fit(net, data, optimizer=sgd(1e-4), epochs=4)
    check(dormant(written_by(net, net.act2, data[0], 1)) >= 10, "10 of 24 channels hardly speak")
    return Seen(reports, of("conv2"))


# Saturated: at an end on nearly all rows


def stuck(a: Tensor, low: float, high: float) -> float:
    margin = 0.01 * max(abs(low), abs(high))
    return ((a <= low + margin) | (a >= high - margin)).float().mean().item()


@sick("saturation")
def saturated_by_raw_inputs() -> Seen:
    """Inputs in thousands, into a tanh."""
    net, (x, y) = chain([20, 48, 48, 5], nn.Tanh), points()
    x = 2000 * x
    reports = fit(net, (x, y), optimizer=sgd(1e-4))
    check(stuck(written_by(net, net.act1, x), -1, 1) > 0.95, "fc1 is at its ends")
    return Seen(reports, of("fc1"))


@sick("saturation")
def saturated_code() -> Seen:
    """The bottleneck of an autoencoder sits at the lower end of its sigmoid."""
    net, data = Autoencoder(nn.ReLU, nn.Sigmoid), images()
    shift(net.encoder[3], 8, -14.0)
    reports = fit(net, data, rebuild, epochs=5, optimizer=sgd(1e-2))
    check(stuck(written_by(net, net.encoder[4], data[0]), 0, 1) > 0.95, "the code is at 0")
    return Seen(reports, of("encoder.3"))


@sick("saturation")
def saturated_waves() -> Seen:
    net, data = waves(nn.Hardtanh), signals()
    scale(net.conv2, weight=300.0)
    reports = fit(net, data, optimizer=sgd(1e-5), epochs=5)
    check(stuck(written_by(net, net.act2, data[0], 1), -1, 1) > 0.95, "conv2 is at its ends")
    return Seen(reports, of("conv2"))


@sick("saturation")
def targets_beyond_the_range() -> Seen:
    """A sigmoid at the end, for targets around 5."""
    net, (x, y) = chain([4, 48, 1]).append(nn.Sigmoid()), curve()
    reports = fit(net, (x, y + 5), regress, optimizer=adam(2e-2))
    check(net(x).min() > 0.97, "the output is at its upper end")
    return Seen(reports, of("head"))


# Zeros


def zeros(weight: Tensor) -> float:
    return (weight.abs() <= 1e-8).float().mean().item()


class Lasso(torch.optim.Adam):
    """Adam with a proximal step of L1 on one weight."""

    def __init__(self, net: nn.Module, weight: nn.Parameter, penalty: float) -> None:
        super().__init__(net.parameters(), 1e-3)
        self.target, self.penalty = weight, penalty

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            self.target.copy_(F.softshrink(self.target, self.penalty))
        return loss


@sick("dead_weights")
def weights_driven_to_zero() -> Seen:
    net, data = chain([20, 48, 48, 5]), points()
    reports = fit(net, data, optimizer=lambda _: Lasso(net, net.fc2.weight, 1e-2))
    check(zeros(net.fc2.weight) > 0.95, "fc2 is all zero")
    return Seen(reports, of("fc2"))


@sick("dead_weights")
def kernels_planted_with_zeros() -> Seen:
    """19 in 20 weights of a convolution are zero and lose their gradient."""
    net, (x, y) = waves(width=24), signals()
    keep = torch.rand_like(net.conv2.weight) > 0.95
    with torch.no_grad():
        net.conv2.weight *= keep
    net.conv2.weight.register_hook(lambda gradient: gradient * keep)
    reports = fit(net, (x, y[torch.randperm(len(y))]), epochs=5)
    check(zeros(net.conv2.weight) > 0.9, "conv2 is 19 in 20 zero")
    return Seen(reports, of("conv2"))


# Copies


def copied(weight: Tensor) -> int:
    """Neurons with another one whose weights are equal to a thousandth, pair by pair."""
    w = weight.detach().flatten(1).double()
    apart = (w[:, None] - w).norm(dim=2) / w.norm(dim=1)
    return int((apart.fill_diagonal_(1) <= 1e-3).any(1).sum())


@torch.no_grad()
def copy_neurons(one: Any, other: Any, number: int) -> None:
    """The first neurons of ``one`` become copies, and ``other`` reads them all alike."""
    one.weight[:number], one.bias[:number] = one.weight[0].clone(), one.bias[0].clone()
    other.weight[:, :number] = other.weight[:, :1].clone() / number


@sick("redundant_neurons")
def copies_among_waves() -> Seen:
    net, data = waves(width=24), signals()
    copy_neurons(net.conv1, net.conv2, 12)
    reports = fit(net, data, epochs=4)
    check(copied(net.conv1.weight) >= 12, "half of conv1 are copies")
    return Seen(reports, of("conv1"))


@sick("redundant_neurons")
def copies_in_a_transformer() -> Seen:
    net, data = Transformer(nn.ReLU), sentences()
    copy_neurons(net.block1.up, net.block1.down, 20)
    reports = fit(net, data, epochs=4)
    check(copied(net.block1.up.weight) >= 20, "20 of 48 neurons are copies")
    return Seen(reports, of("block1.up"))


# Activations without a bend


@sick("linear_activation", WARNING)
def slope_drawn_to_one() -> Seen:
    """A network with slope 1 is the teacher; the student differs by its slope alone."""
    net, (x, _) = chain([20, 16, 1], nn.PReLU), points()
    teacher = copy.deepcopy(net)
    nn.init.ones_(teacher.act1.weight)
    for module in (net.fc1, net.head):
        module.requires_grad_(False)
    reports = fit(net, (x, teacher(x)[:, 0].detach()), regress, optimizer=adam(2e-2), epochs=10)
    check(abs(net.act1.weight.item() - 1) < 5e-3, "the slope is 1")
    return Seen(reports, of("fc1"))


@sick("linear_activation", WARNING)
def slopes_of_one_in_a_convolution() -> Seen:
    net, data = ConvNet(lambda: nn.PReLU(init=1.0)), images()
    reports = fit(net, data, optimizer=sgd(1e-3), epochs=4)
    check((net.act.weight - 1).abs().max() < 5e-3, "the slopes are 1")
    return Seen(reports, of("conv1", "conv2"))


@sick("dead_neurons")
def dead_from_deep_within() -> Seen:
    """A unit of four layers of which the third cannot fire: its weights are negative and its inputs are not."""
    net, data = deep(4, nn.ReLU), points()
    with torch.no_grad():
        net.fc3.weight[:30].abs_().neg_()
        net.fc3.bias[:30] = -0.1
    reports = fit(net, data, optimizer=sgd(1e-2), epochs=6)
    check(dead(written_by(net, net.fc3, data[0])) >= 30, "30 of 40 neurons cannot fire")
    return Seen(reports, of("fc3"))
