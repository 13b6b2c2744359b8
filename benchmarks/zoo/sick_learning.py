"""Runs that do not learn as they should: noise, steps of the wrong size, plateaus, overfitting, spikes."""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor, nn

from benchmarks.zoo.data import curve, images, points, sentences, signals
from benchmarks.zoo.networks import ChannelsLast, ConvNet, Recurrent, Transformer, chain, deep
from benchmarks.zoo.training import (
    Choose,
    Data,
    Loss,
    Seen,
    Severity,
    accuracy,
    adam,
    check,
    classify,
    fit,
    regress,
    sgd,
    sick,
)

WARNING = Severity.WARNING


def loss_of(net: nn.Module, data: Data, loss: Loss = classify) -> float:
    with torch.no_grad():
        return loss(net, *data).item()


def coin(classes: int) -> Loss:
    """Labels that are drawn anew at each step: there is nothing to learn but their frequency."""
    return lambda net, x, y: classify(net, x, torch.randint(classes, y.shape))


# Gradients that are noise


def signal_to_noise(net: nn.Module, weight: nn.Parameter, data: Data, loss: Loss, steps: int = 40) -> float:
    """T · ‖mean g‖² / Var g over batches of 64; 1 is pure noise."""
    gradients = []
    for _ in range(steps):
        rows = torch.randint(len(data[0]), (64,))
        (g,) = torch.autograd.grad(loss(net, *(part[rows] for part in data)), [weight])
        gradients.append(g.flatten())
    all_of_them = torch.stack(gradients)
    return (steps * all_of_them.mean(0).square().sum() / all_of_them.var(0).sum()).item()


@sick("low_gradient_snr")
def coins_for_labels() -> Seen:
    net, data = chain([20, 32, 5]), points()
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    before = loss_of(net, data, coin(5))
    ratio = signal_to_noise(net, net.head.weight, data, coin(5))
    check(ratio < 1.5, f"the gradient is noise, {ratio:.2g}")
    reports = fit(net, data, coin(5), optimizer=sgd(1e-3), every=1, epochs=6)
    check(abs(loss_of(net, data, coin(5)) - before) < 0.02 * before, "nothing is learned")
    return Seen(reports)


@sick("low_gradient_snr")
def noise_for_targets() -> Seen:
    """A regression of ±10 drawn anew at each step, by a convolution."""
    net, (x, _) = ConvNet(), images()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return regress(net, x, 10 * torch.randn(len(x)).sign())

    data = (x, torch.zeros(len(x)))
    ratio = signal_to_noise(net, net.head.weight, data, loss)
    check(ratio < 1.6, f"the gradient is noise, {ratio:.2g}")
    before = loss_of(net, data, loss)
    reports = fit(net, data, loss, optimizer=sgd(1e-5), every=1, epochs=5)
    check(abs(loss_of(net, data, loss) - before) < 0.03 * before, "nothing is learned")
    return Seen(reports)


# Steps of the wrong size


def moved(
    net: nn.Module, weight: nn.Parameter, choose: Callable[[nn.Module], torch.optim.Optimizer], data: Data
) -> float:
    """‖ΔW‖ / ‖W‖ of one optimizer step from here, which is taken back."""
    state = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer, before = choose(net), weight.detach().clone()
    classify(net, data[0][:64], data[1][:64]).backward()
    optimizer.step()
    optimizer.zero_grad()
    ratio = ((weight.detach() - before).norm() / before.norm()).item()
    net.load_state_dict(state)
    return ratio


@sick("update_ratio_high")
def steps_larger_than_the_weights() -> Seen:
    net, data = ConvNet(), images()
    ratio = moved(net, net.conv2.weight, adam(0.5), data)
    check(ratio > 1, f"the first step moves conv2 by {ratio:.2g} of itself")
    return Seen(fit(net, data, optimizer=adam(0.5), every=1, epochs=4))


@sick("update_ratio_high")
def large_steps_in_a_transformer() -> Seen:
    net, data = Transformer(), sentences()
    reports = fit(net, data, optimizer=adam(0.3), every=1, epochs=4)
    ratio = moved(net, net.block1.up.weight, sgd(0.0), data)
    check(ratio == 0, "the measurement takes its step back")
    return Seen(reports)


@sick("update_ratio_low")
def steps_that_are_too_small() -> Seen:
    net, data = deep(3, nn.GELU), points()
    before = net.fc2.weight.detach().clone()
    reports = fit(net, data, optimizer=adam(1e-9), every=1, epochs=5)
    steps = 5 * 32
    ratio = ((net.fc2.weight - before).norm() / before.norm()).item() / steps
    check(ratio < 1e-6, f"a step moves fc2 by {ratio:.1g} of itself")
    return Seen(reports)


@sick("update_ratio_low")
def clipped_to_nothing() -> Seen:
    """Gradients are clipped to a norm of 1e-7."""
    net, data = ChannelsLast(), images()
    before = net.block1.up.weight.detach().clone()
    reports = fit(net, data, optimizer=sgd(0.05), every=1, epochs=4, gradient_clip_val=1e-7)
    check((net.block1.up.weight - before).norm() / before.norm() < 4 * 32 * 1e-6, "no step moves it by a millionth")
    return Seen(reports)


# Plateaus


@sick("plateau")
def shuffled_labels() -> Seen:
    net, (x, y) = Recurrent(), signals()
    data = (x, y[torch.randperm(len(y))])
    before = loss_of(net, data)
    reports = fit(net, data, optimizer=sgd(0.02), epochs=7)
    check(loss_of(net, data) > 0.97 * before, "the loss stays where it was")
    return Seen(reports)


@sick("plateau")
def twelve_layers_that_do_not_start() -> Seen:
    net, data = deep(12, nn.ReLU), points()
    before = loss_of(net, data)
    reports = fit(net, data, optimizer=sgd(0.02), epochs=8)
    check(loss_of(net, data) > 0.97 * before, "the loss stays where it was")
    return Seen(reports)


@sick("stalled_progress", WARNING)
def stalled_half_way() -> Seen:
    """After four epochs a bug zeroes all gradients; the learning rate stays."""
    net, data = chain([20, 48, 5]), points()
    steps = count()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return classify(net, x, y) * (next(steps) < 100)

    def honest(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        value = classify(net, x, y)
        return value if next(steps) < 100 else value.detach() + 0 * value

    reports = fit(net, data, honest, optimizer=sgd(0.02), epochs=14)
    check(accuracy(net, data) < 0.95, "it had more to learn")
    return Seen(reports, first=4)


@sick("stalled_progress", WARNING)
def bouncing_at_a_large_rate() -> Seen:
    """A learning rate at which the loss falls to a level that it does not leave, and that a smaller one would."""
    net, data = ConvNet(norm=False), images()
    reports = fit(net, data, optimizer=adam(0.03), epochs=14)
    stuck = loss_of(net, data)
    fit(net, data, optimizer=adam(5e-4), epochs=3)
    check(loss_of(net, data) < 0.9 * stuck, "a smaller learning rate goes on")
    return Seen(reports, first=3)


# Overfitting


def half_wrong(y: Tensor, classes: int) -> Tensor:
    return torch.where(torch.rand(len(y)) < 0.5, torch.randint(classes, (len(y),)), y)


@sick("overfitting")
def learns_wrong_labels_by_heart() -> Seen:
    net, (x, y) = chain([20, 128, 128, 5]), points()
    few = (x[:256], half_wrong(y[:256], 5))
    held = (x[1024:], half_wrong(y[1024:], 5))
    before = loss_of(net, held)
    reports = fit(net, few, optimizer=adam(3e-3), batch=32, epochs=40, validation=held)
    check(loss_of(net, few) < 0.1, "the training data is known by heart")
    check(loss_of(net, held) > 1.3 * before, "and no other")
    return Seen(reports)


@sick("overfitting")
def overfitted_waves() -> Seen:
    net, (x, y) = Recurrent(nn.GRU, 48), signals()
    few = (x[:192], half_wrong(y[:192], 4))
    held = (x[1024:1536], half_wrong(y[1024:1536], 4))
    before = loss_of(net, held)
    reports = fit(net, few, optimizer=adam(5e-3), batch=32, epochs=45, validation=held)
    check(loss_of(net, few) < 0.5, "the training data is known by heart")
    check(loss_of(net, held) > 1.3 * before, "and no other")
    return Seen(reports)


# Spikes


def spiked(factor: float, step: int, loss: Loss) -> Loss:
    """One batch whose inputs are ``factor`` times as large."""
    steps = count()
    return lambda net, x, y: loss(net, x * factor if next(steps) == step else x, y)


@sick("loss_spike", WARNING)
def corrupted_batch() -> Seen:
    net, data = chain([20, 48, 5]), points()
    ratio = loss_of(net, (100 * data[0], data[1])) / loss_of(net, data)
    check(ratio > 5, f"the batch has {ratio:.2g} times the loss")
    reports = fit(net, data, spiked(100.0, 150, classify), optimizer=sgd(1e-2), epochs=7)
    return Seen(reports, first=4)


@sick("loss_spike", WARNING)
def spike_in_a_regression() -> Seen:
    net, data = chain([4, 32, 32, 1], nn.Tanh), curve()
    wrong = (data[0], data[1] + 30)
    check(loss_of(net, wrong, regress) > 50 * loss_of(net, data, regress), "the batch has 50 times the loss")
    steps = count()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return regress(net, x, y + 30 if next(steps) == 120 else y)

    return Seen(fit(net, data, loss, optimizer=sgd(1e-2), epochs=6), first=3)
