"""Networks that learn well, many of them tempting to a naive rule; each is checked to have learned."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmarks.zoo.data import curve, images, points, sentences, signals
from benchmarks.zoo.networks import Autoencoder, ChannelsLast, ConvNet, Recurrent, Transformer, chain, deep, waves
from benchmarks.zoo.sick_flow import Pair
from benchmarks.zoo.training import (
    Seen,
    accuracy,
    adam,
    check,
    classify,
    fit,
    healthy,
    rebuild,
    regress,
    sgd,
    written_by,
)


def learned(net: nn.Module, data: Any, least: float = 0.85, **options: Any) -> Seen:
    """Train a classifier and see that it is right on ``least`` of the data."""
    reports = fit(net, data, **options)
    right = accuracy(net, data)
    check(right > least, f"it is right on {right:.0%} only")
    return Seen(reports)


@healthy(quick=True)
def plain_network() -> Seen:
    return learned(chain([20, 64, 64, 5]), points())


@healthy
def sparse_activations() -> Seen:
    """Each neuron fires on one row in eight, and all of them do."""
    net, data = chain([20, 128, 5]), points()
    net.act1 = nn.Sequential(nn.BatchNorm1d(128), nn.ReLU())
    nn.init.constant_(net.act1[0].bias, -1.3)
    seen = learned(net, data, 0.75)
    on = (written_by(net, net.act1, data[0]) > 0).float().mean(0)
    check(on.mean() < 0.25 and on.min() > 0, "it is sparse, and nothing is dead")
    return seen


@healthy
def frozen_backbone() -> Seen:
    net, data = ConvNet(), images()
    fit(net, data, epochs=4)
    for part in (net.conv1, net.conv2, net.norm1, net.norm2):
        part.requires_grad_(False)
    nn.init.normal_(net.head.weight, std=0.01)
    return learned(net, data, epochs=5, optimizer=adam(1e-2))


@healthy
def heavy_dropout() -> Seen:
    net = chain([20, 128, 128, 5])
    net.act1, net.act2 = (nn.Sequential(nn.ReLU(), nn.Dropout(0.6)) for _ in range(2))
    return learned(net, points())


@healthy
def rare_words() -> Seen:
    """An embedding of 2,000 words, of which most never come."""
    return learned(Transformer(words=2000), sentences(), 0.7, optimizer=adam(5e-3))


@healthy
def gated_transformer() -> Seen:
    return learned(Transformer(nn.SiLU, gated=True), sentences(), 0.7, optimizer=adam(5e-3))


@healthy
def long_short_term_memory() -> Seen:
    return learned(Recurrent(nn.LSTM), signals(), 0.8, optimizer=adam(1e-2), epochs=10)


@healthy
def gated_recurrence_with_clipping() -> Seen:
    return learned(Recurrent(), signals(), 0.8, optimizer=adam(1e-2), epochs=8, gradient_clip_val=0.5)


@healthy
def hard_swish() -> Seen:
    return learned(ConvNet(nn.Hardswish), images(), epochs=6)


@healthy
def capped_relu() -> Seen:
    return learned(ConvNet(lambda: nn.ReLU6(inplace=True)), images(), epochs=6)


@healthy
def sure_of_itself() -> Seen:
    """Three clear clouds: a loss of a thousandth, and gradients that come and go."""
    net, (x, y) = chain([20, 64, 64, 5]), points()
    data = (x + 8 * F.one_hot(y, 20), y)
    reports = fit(net, data, optimizer=adam(5e-3), epochs=14)
    check(classify(net, *data) < 5e-3, "it is sure")
    return Seen(reports)


@healthy
def resumed() -> Seen:
    """Watched only once it has learned all that there is."""
    net, data = chain([20, 64, 64, 5]), points()
    fit(net, data, epochs=16)
    return learned(net, data, 0.95, optimizer=adam(1e-4), epochs=6)


@healthy
def warm_up_and_cosine() -> Seen:
    steps = 12 * 32

    def rate(step: int) -> float:
        return min(1.0, step / 80) * 0.5 * (1 + torch.cos(torch.tensor(3.14159 * min(step / steps, 1.0))).item())

    return learned(Transformer(), sentences(), 0.7, optimizer=adam(5e-3), rate=rate, epochs=12)


@healthy
def accumulated_gradients() -> Seen:
    net = waves(nn.GELU)
    return learned(net, signals(), optimizer=adam(3e-3), batch=16, accumulate_grad_batches=4, epochs=6)


@healthy
def small_steps_of_adam() -> Seen:
    """Fine-tuning at 1e-5: a step moves a weight by a ten-thousandth of itself."""
    net, data = ChannelsLast(), images()
    fit(net, data, optimizer=adam(5e-3), epochs=6)
    return learned(net, data, optimizer=adam(1e-5), epochs=5)


@healthy
def tiny_batches() -> Seen:
    x, y = points(400)
    return learned(chain([20, 48, 5]), (x, y), 0.8, batch=2, optimizer=adam(1e-3), epochs=5)


@healthy
def adversaries() -> Seen:
    pair, (x, y) = Pair(rates=(1e-3, 3e-3)), images()
    reports = fit(pair, (x, y), epochs=14)
    fakes = pair.generator(torch.randn(2000, 8)).mean(0)
    check((fakes - x.mean(0).flatten()).abs().mean() < 0.6 * x.mean(0).abs().mean(), "fakes are as bright as the real")
    return Seen(reports)


@healthy
def channels_last() -> Seen:
    return learned(ChannelsLast(), images(), optimizer=adam(5e-3), epochs=6)


@healthy
def scaled_branches() -> Seen:
    """Layer scale: branches begin at a millionth."""
    return learned(ChannelsLast(scale=1e-6), images(), 0.7, optimizer=adam(5e-3), epochs=9)


@healthy
def autoencoder() -> Seen:
    net, data = Autoencoder(nn.GELU, nn.Identity), images()
    before = rebuild(net, *data).item()
    reports = fit(net, data, rebuild, optimizer=adam(5e-3))
    check(rebuild(net, *data) < 0.6 * before, "it rebuilds what it sees")
    return Seen(reports)


@healthy
def large_targets() -> Seen:
    """Prices: gradients have norms in the tens of thousands."""
    net, (x, y) = chain([4, 64, 64, 1]), curve()
    price = 1e4 * (y + 3)
    reports = fit(net, (x, price), regress, optimizer=adam(0.1), epochs=12)
    check(regress(net, x, price) < 0.7 * price.var(), "it knows a good part of the price")
    return Seen(reports)


@healthy
def noisy_targets() -> Seen:
    """Most of the loss is noise that nothing can learn."""
    net, (x, clean) = chain([4, 48, 48, 1], nn.Tanh), curve(noise=0.0)
    y = clean + 2 * torch.randn(len(x))
    reports = fit(net, (x, y), regress, optimizer=adam(3e-3), epochs=10)
    check(torch.corrcoef(torch.stack([net(x)[:, 0], clean]))[0, 1] > 0.8, "it has found the rest")
    return Seen(reports)


@healthy
def pruned() -> Seen:
    net = chain([20, 96, 96, 5])
    prune.random_unstructured(net.fc2, "weight", 0.93)
    return learned(net, points(), optimizer=adam(5e-3))


@healthy
def zero_branch_and_head() -> Seen:
    """Adapters whose second matrix is zero on a frozen network, and a head that starts at zero."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.a, self.b = nn.Linear(base.in_features, 4, bias=False), nn.Linear(4, base.out_features, bias=False)
            nn.init.zeros_(self.b.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.b(self.a(x))

    net, data = chain([20, 64, 64, 5]), points()
    fit(net, data, epochs=2)
    net.fc1, net.fc2 = Adapted(net.fc1), Adapted(net.fc2)
    nn.init.zeros_(net.head.weight)
    return learned(net, data, optimizer=adam(5e-3))


@healthy
def eight_layers_at_the_default() -> Seen:
    """Activations fall a hundredfold at the start, and it learns all the same."""
    return learned(deep(8, nn.GELU), points(), optimizer=adam(2e-3), epochs=12)


@healthy
def raw_inputs() -> Seen:
    """Numbers in the hundreds, and amounts of money behind a norm."""
    net, (x, y) = chain([20, 64, 64, 5]), points()
    return learned(net, (300 * x, y), optimizer=adam(1e-3))


@healthy
def plain_descent_with_steps() -> Seen:
    """SGD whose learning rate falls tenfold twice."""
    rate = lambda step: 0.1 ** (step // 128)  # noqa: E731
    return learned(ConvNet(), images(), optimizer=sgd(0.2, momentum=0.9), rate=rate, epochs=12)


@healthy
def two_views() -> Seen:
    """A contrastive loss: the network is called twice a step."""
    net, data = chain([20, 64, 8]), points(classes=8)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        one, other = (F.normalize(net(x + 0.3 * torch.randn_like(x))) for _ in range(2))
        return F.cross_entropy(10 * one @ other.T, torch.arange(len(x)))

    before = loss(net, *data).item()
    reports = fit(net, data, loss, optimizer=adam(3e-3))
    check(loss(net, *data) < 0.75 * before, "views of one point are near each other")
    return Seen(reports)


@healthy
def rare_classes() -> Seen:
    """97 % of all rows are of one class."""
    x, y = points(4096)
    keep = (y == 0) | (torch.rand(len(y)) < 0.03)
    return learned(chain([20, 64, 5]), (x[keep], y[keep]), 0.97, optimizer=adam(5e-3), epochs=14)


@healthy
def a_little_overfitted() -> Seen:
    """The validation loss is half as large again as the training loss, as in most runs."""
    net, (x, y) = chain([20, 96, 5]), points()
    few, held = (x[:768], y[:768]), (x[768:], y[768:])
    reports = fit(net, few, optimizer=adam(3e-3), batch=32, epochs=9, validation=held)
    check(accuracy(net, held) > 0.8, "it knows what it has not seen")
    check(classify(net, *held) > 1.5 * classify(net, *few), "and what it has seen it knows better")
    return Seen(reports)
