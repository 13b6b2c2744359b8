"""Runs that do not learn as they should: noise, steps of the wrong size, plateaus, overfitting, spikes."""

from __future__ import annotations

from itertools import count
from statistics import fmean

import torch
from torch import Tensor, nn

from benchmarks.zoo.data import curve, images, points, signals
from benchmarks.zoo.networks import ChannelsLast, ConvNet, Recurrent, chain, deep, waves
from benchmarks.zoo.training import (
    Choose,
    Data,
    Loss,
    Seen,
    Severity,
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


def watched(choose: Choose, weight: nn.Parameter, ratios: list[float]) -> Choose:
    """The same optimizer; it notes ‖ΔW‖ / ‖W‖ of each of its steps."""
    before = [weight.detach().clone()]

    def note(*_: object) -> None:
        now = weight.detach().clone()
        ratios.append(((now - before[0]).norm() / before[0].norm()).item())
        before[0] = now

    def made(net: nn.Module) -> torch.optim.Optimizer:
        optimizer = choose(net)
        optimizer.register_step_post_hook(note)
        return optimizer

    return made


@sick("update_ratio_high")
def first_steps_larger_than_the_weights() -> Seen:
    """Plain descent at a learning rate of 100: the first steps throw the weights to where tanh is flat."""
    net, data, ratios = deep(3, nn.Tanh), points(), []
    before = loss_of(net, data)
    reports = fit(net, data, optimizer=watched(sgd(100.0), net.fc2.weight, ratios), every=1, epochs=5)
    check(ratios[0] > 1, f"the first step changes fc2 by {ratios[0]:.2g} of itself")
    check(loss_of(net, data) > before, "it is worse than it began")
    return Seen(reports)


@sick("update_ratio_high")
def large_steps_in_a_recurrence() -> Seen:
    """Momentum at a learning rate of 3; weight decay keeps the weights near the size of the steps."""
    net, data, ratios = Recurrent(), signals(), []
    before = loss_of(net, data)
    choose = watched(sgd(3.0, weight_decay=0.1, momentum=0.9), net.fc.weight, ratios)
    reports = fit(net, data, optimizer=choose, every=1, epochs=4)
    check(sorted(ratios)[len(ratios) // 2] > 0.1, "a step changes a tenth of fc")
    check(loss_of(net, data) > before, "it is worse than it began")
    return Seen(reports)


@sick("update_ratio_low")
def steps_that_are_too_small() -> Seen:
    net, data, ratios = deep(3, nn.GELU), points(), []
    reports = fit(net, data, optimizer=watched(adam(2e-8), net.fc2.weight, ratios), every=1, epochs=5)
    check(0 < max(ratios) < 1e-6, f"a step changes fc2 by {max(ratios):.1g} of itself at most")
    return Seen(reports)


@sick("update_ratio_low")
def clipped_to_nothing() -> Seen:
    """Gradients are clipped to a norm of 4e-5."""
    net, data, ratios = ChannelsLast(), images(), []
    choose = watched(sgd(0.05), net.block1.up.weight, ratios)
    reports = fit(net, data, optimizer=choose, every=1, epochs=4, gradient_clip_val=4e-5)
    check(0 < max(ratios) < 1e-6, f"a step changes the block by {max(ratios):.1g} of itself at most")
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
def labels_that_get_lost() -> Seen:
    """From the fifth epoch on, the labels no longer belong to the rows."""
    net, data, losses = chain([20, 48, 5]), points(), []

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        value = classify(net, x, y if len(losses) < 128 else y[torch.randperm(len(y))])
        losses.append(value.item())
        return value

    reports = fit(net, data, loss, optimizer=adam(1e-3), epochs=12)
    check(fmean(losses[120:128]) < 0.5 * losses[0], "it learned")
    check(fmean(losses[-64:]) > 2 * fmean(losses[120:128]), "and no longer does")
    return Seen(reports, first=4)


@sick("stalled_progress", WARNING)
def bouncing_at_a_large_rate() -> Seen:
    """A learning rate at which the loss falls to a level that it does not leave, and that a smaller one would."""
    net, data = chain([4, 32, 32, 1], nn.Tanh), curve()
    reports = fit(net, data, regress, optimizer=adam(0.1), epochs=14)
    bouncing = reports[-1].run["train_loss"].mean().item()
    fit(net, data, regress, optimizer=adam(1e-3), epochs=4)
    check(loss_of(net, data, regress) < 0.7 * bouncing, "a smaller learning rate goes on")
    return Seen(reports, first=3)


# Overfitting


def half_wrong(y: Tensor, classes: int) -> Tensor:
    return torch.where(torch.rand(len(y)) < 0.5, torch.randint(classes, (len(y),)), y)


@sick("overfitting")
def learns_wrong_labels_by_heart() -> Seen:
    net, (x, y) = chain([20, 128, 128, 5]), points()
    few = (x[:128], half_wrong(y[:128], 5))
    held = (x[1024:], half_wrong(y[1024:], 5))
    before = loss_of(net, held)
    reports = fit(net, few, optimizer=adam(3e-3), batch=32, epochs=30, validation=held)
    check(loss_of(net, few) < 0.1, "the training data is known by heart")
    check(loss_of(net, held) > 1.3 * before, "and no other")
    return Seen(reports)


@sick("overfitting")
def overfitted_waves() -> Seen:
    net, (x, y) = waves(width=24), signals()
    few = (x[:128], half_wrong(y[:128], 4))
    held = (x[1024:1536], half_wrong(y[1024:1536], 4))
    before = loss_of(net, held)
    reports = fit(net, few, optimizer=adam(5e-3), batch=32, epochs=30, validation=held)
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
def batches_in_another_unit() -> Seen:
    """One in thirty."""
    net, data = chain([4, 32, 32, 1], nn.Tanh), curve()
    check(
        loss_of(net, (data[0], 20 * data[1]), regress) > 50 * loss_of(net, data, regress), "they have 50 times the loss"
    )
    steps = count()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return regress(net, x, 20 * y if next(steps) % 30 == 29 else y)

    return Seen(fit(net, data, loss, optimizer=sgd(1e-3), epochs=6))


@sick("loss_spike", WARNING)
def spike_in_a_regression() -> Seen:
    net, data = chain([4, 32, 32, 1], nn.Tanh), curve()
    wrong = (data[0], data[1] + 30)
    check(loss_of(net, wrong, regress) > 50 * loss_of(net, data, regress), "the batch has 50 times the loss")
    steps = count()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return regress(net, x, y + 30 if next(steps) == 120 else y)

    return Seen(fit(net, data, loss, optimizer=sgd(1e-2), epochs=6), first=3)
