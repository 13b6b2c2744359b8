"""Sick and healthy networks, trained for a moment on digits.

Each function trains once a session and gives what was reported. Its fault, or its good health, is checked in it by
plain torch on the data, without the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_neurohealth import Severity
from tests.rules.trained import (
    Lit,
    Trained,
    X,
    Y,
    accuracy,
    adam,
    classify,
    fit,
    gradient_sizes,
    indices,
    network,
    never_positive,
    regress,
    sgd,
    train,
    written_by,
)

SERIOUS, CRITICAL = Severity.SERIOUS, Severity.CRITICAL

# Architectures


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


# Dead neurons: in each, the planted ones are 0 on all of the data, before and after the training.


@network
def dead_by_bias() -> Trained:
    net = mlp(depth=1, width=128)
    biased(net, net[0], 30, -20.0)
    reports = train(net)
    return Trained(reports, "0", never_positive(written_by(net, net[0])), SERIOUS)


@network
def dead_channels_behind_batch_norm() -> Trained:
    net = conv_net(relu_inplace, norm=True)
    biased(net, net[5], 10, -20.0)
    reports = train(net, steps=40)
    return Trained(reports, "4", never_positive(written_by(net, net[5], axis=1)), CRITICAL)


@network
def dead_channels_of_a_1d_convolution() -> Trained:
    conv = nn.Conv1d(8, 32, 3, padding=1)
    net = nn.Sequential(nn.Unflatten(1, (8, 8)), conv, nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    biased(net, conv, 10, -20.0)
    reports = train(net)
    return Trained(reports, "1", never_positive(written_by(net, conv, axis=1)), SERIOUS)


@network
def dead_in_a_transformer() -> Trained:
    net = Encoder()
    biased(net, net.block.linear1, 40, -30.0)
    reports = train(net)
    return Trained(reports, "block.linear1", never_positive(written_by(net, net.block.linear1)), CRITICAL)


@network
def dead_functional() -> Trained:
    net = Functional()
    biased(net, net.fc2, 60, -20.0)
    reports = train(net)
    return Trained(reports, "fc2", never_positive(written_by(net, net.fc2)), CRITICAL)


@network
def dead_generator() -> Trained:
    gan = GAN()
    biased(gan, gan.generator[0], 40, -20.0)
    reports = fit(gan)
    z = written_by(gan.generator, gan.generator[0], torch.randn(2000, 16))
    return Trained(reports, "generator.0", never_positive(z), CRITICAL)


@network
def dead_before_few_rows() -> Trained:
    """Sixteen rows a window: it takes 63 windows to see a thousand."""
    net = mlp(depth=1, width=128)
    biased(net, net[0], 40, -20.0)
    reports = train(net, optimizer=sgd(net, 1e-3), batch=16, every=10, window=10, steps=660)
    return Trained(reports, "0", never_positive(written_by(net, net[0])), SERIOUS)


@network
def died_of_the_learning_rate() -> Trained:
    """Well at first; after step 60 the learning rate is 500 times as large."""
    net = mlp()
    reports = train(net, rate=lambda step: 1.0 if step < 60 else 500.0, steps=120)
    dead = never_positive(written_by(net, net[2]))
    assert len(dead) > 48
    return Trained(reports, "2", dead, CRITICAL)


# Dormant neurons: not dead, but next to silent beside the others. The learning rate is too small to change them.


def silent(a: Tensor) -> frozenset[int]:
    """Neurons with under 2.5 % of the layer's mean activity, though not always 0."""
    size = a.abs().mean(0)
    return indices((size <= 0.025 * size.mean()) & (a.abs().amax(0) > 0))


@network
def dormant_by_weights() -> Trained:
    net = mlp(depth=1, width=100)
    with torch.no_grad():
        net[0].weight[:40] *= 1e-3
        net[0].bias[:40] = 1e-4
    reports = train(net, optimizer=sgd(net, 1e-4))
    return Trained(reports, "0", silent(written_by(net, net[1])), SERIOUS)


@network
def dormant_channels_behind_batch_norm() -> Trained:
    net = conv_net(nn.SiLU, norm=True)
    with torch.no_grad():
        net[5].weight[:9] *= 1e-3
    reports = train(net, optimizer=sgd(net, 1e-4), steps=40)
    return Trained(reports, "4", silent(written_by(net, net[6], axis=1)), CRITICAL)


@network
def dormant_in_the_tail_of_silu() -> Trained:
    """At −25, SiLU gives −3e-10 with a slope as small: the neurons are not dead, but nothing comes of them."""
    net = mlp(nn.SiLU, depth=1, width=100)
    biased(net, net[0], 40, -25.0)
    reports = train(net, optimizer=sgd(net, 1e-4))
    return Trained(reports, "0", silent(written_by(net, net[1])), SERIOUS)


# Saturation


def stuck(a: Tensor, low: float, high: float) -> frozenset[int]:
    """Neurons that lie within a hundredth of the range of an end of it on more than 80 % of rows."""
    margin = 0.01 * max(abs(low), abs(high))
    return indices(((a <= low + margin) | (a >= high - margin)).float().mean(0) > 0.8)


@network
def saturated_by_weights() -> Trained:
    net = mlp(nn.Tanh)
    with torch.no_grad():
        net[0].weight *= 200
    reports = train(net, optimizer=sgd(net, 1e-5))
    return Trained(reports, "0", stuck(written_by(net, net[1]), -1, 1), CRITICAL)


@network
def saturated_at_zero_by_bias() -> Trained:
    net = biased(conv := conv_net(nn.Sigmoid), conv[3], 16, -8.0)
    reports = train(net, steps=40)
    return Trained(reports, "3", stuck(written_by(net, conv[4], axis=1), 0, 1), CRITICAL)


@network
def saturated_functional() -> Trained:
    net = Functional(torch.tanh)
    with torch.no_grad():
        net.fc2.weight *= 120
    reports = train(net, optimizer=sgd(net, 1e-5))
    return Trained(reports, "fc2", stuck(written_by(net, net.fc2).tanh(), -1, 1), SERIOUS)


# Activations and gradients along the depth


def spreads(net: nn.Sequential, kind: type[nn.Module]) -> list[float]:
    """Standard deviation over the data of what each activation writes, median over neurons."""
    return [written_by(net, m).std(0).median().item() for m in net if isinstance(m, kind)]


@network
def vanishing_tanh() -> Trained:
    net = shrunk(mlp(nn.Tanh, depth=10, width=48), 0.02)
    sizes = spreads(net, nn.Tanh)
    assert sizes[-1] < 1e-5 * sizes[0]
    return Trained(train(net, optimizer=sgd(net, 1e-3)), severity=SERIOUS)


@network
def vanishing_convolutions() -> Trained:
    net = shrunk(conv_net(nn.Tanh, depth=7), 0.01)
    last = written_by(net, net[14], axis=1).std(0).median()
    assert last < 1e-5 * written_by(net, net[2], axis=1).std(0).median()
    return Trained(train(net, optimizer=sgd(net, 1e-3), steps=40), severity=SERIOUS)


@network
def exploding_mlp() -> Trained:
    net = shrunk(mlp(depth=8), 0.5)
    sizes = spreads(net, nn.ReLU)
    assert sizes[-1] > 1e3 * sizes[0]
    return Trained(train(net, optimizer=sgd(net, 1e-12)), severity=SERIOUS)


@network
def exploding_convolutions() -> Trained:
    net = shrunk(conv_net(relu_inplace, depth=6), 1.0)
    last = written_by(net, net[12], axis=1).std(0).median()
    assert last > 1e3 * written_by(net, net[2], axis=1).std(0).median()
    return Trained(train(net, optimizer=sgd(net, 1e-12), steps=40), severity=SERIOUS)


@network
def exploding_while_training() -> Trained:
    """A linear layer above its largest stable learning rate grows by half with every step."""
    net = nn.Sequential(nn.Linear(64, 16), nn.Linear(16, 1))
    net[1].requires_grad_(False)
    before = written_by(net, net[0]).std(0).median()
    reports = train(net, regress, data=(X, Y.float()), optimizer=sgd(net, 0.3), steps=50, window=10)
    assert written_by(net, net[0]).std(0).median() > 1e6 * before
    return Trained(reports, "0", severity=CRITICAL)


@network
def vanishing_through_sigmoids() -> Trained:
    net = mlp(nn.Sigmoid, depth=8, width=48)
    first, *_, last = gradient_sizes(net, [m.weight for m in net if isinstance(m, nn.Linear)])
    assert first < 1e-5 * last
    return Trained(train(net, optimizer=sgd(net, 1e-2)), "0", severity=SERIOUS)


@network
def vanishing_through_convolutions() -> Trained:
    net = conv_net(nn.Sigmoid, depth=6)
    first, *_, last = gradient_sizes(net, [m.weight for m in net if isinstance(m, (nn.Linear, nn.Conv2d))])
    assert first < 1e-5 * last
    return Trained(train(net, optimizer=sgd(net, 1e-2), steps=40), "1", severity=SERIOUS)


@network
def starved_generator() -> Trained:
    """The discriminator is sure, and the minimax loss is flat where it is: nothing reaches the generator."""
    gan = GAN(saturating=True, rates=(1e-5, 1e-2), judge_steps=5)
    sizes: list[float] = []

    def remember(*_: Any) -> None:
        sizes.append(gan.generator[0].weight.grad.square().mean().sqrt().item())

    gan.on_train_batch_end = remember
    reports = fit(gan, window=2, epochs=4)
    assert max(sizes[-4:]) < 1e-3 * sizes[0]
    return Trained(reports, "generator.0", severity=SERIOUS)


# Gradients that leap and grow, NaN


@network
def diverging_regression() -> Trained:
    """A linear network above its largest stable learning rate, until it overflows."""
    net = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 1))
    reports = train(net, regress, data=(X, Y.float()), optimizer=sgd(net, 0.1), steps=40, window=40)
    assert not net[0].weight.isfinite().all()
    return Trained(reports, severity=CRITICAL)


@network
def diverging_slowly() -> Trained:
    """A linear model just above its largest stable learning rate: the loss doubles every four steps."""
    net = nn.Sequential(nn.Linear(64, 1))
    reports = train(net, regress, data=(X, Y.float()), optimizer=sgd(net, 0.1), steps=60)
    assert regress(net, X, Y.float()) > 1e6
    return Trained(reports, severity=SERIOUS)


def outliers(every: int) -> list[Any]:
    """Rows of noise; one in ``every`` is 3,000 times as large."""
    x = torch.randn(4000, 16)
    x[::every] *= 3e3
    return [x, x[:, 0]]


@network
def outliers_in_the_data() -> Trained:
    net = mlp(depth=1, inputs=16)
    data = outliers(every=400)
    reports = train(net, regress, data=data, optimizer=sgd(net, 1e-12), steps=200, window=100, batch=16)
    return Trained(reports, severity=SERIOUS)


@network
def infinite_input() -> Trained:
    """One batch, that of step 33, holds infinity."""
    net, step = mlp(), iter(range(1000))

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return classify(net, x / 0 if next(step) == 33 else x, y)

    reports = train(net, loss)
    assert not net[0].weight.isfinite().all()
    return Trained(reports, "0", severity=CRITICAL)


@network
def infinite_input_unmeasured() -> Trained:
    """The same, on a step that is not measured: the loss is the first that was seen."""
    net, step = mlp(), iter(range(1000))

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return classify(net, x / 0 if next(step) == 33 else x, y)

    return Trained(train(net, loss, every=10), severity=CRITICAL)


@network
def division_by_zero_inside() -> Trained:
    """Each row is divided by its spread; on step 25 a batch is blank."""

    class Divides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = conv_net(relu_inplace, norm=True)[:4]
            self.fc, self.head, self.step = nn.Linear(16, 32), nn.Linear(32, 10), iter(range(1000))

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x).mean((2, 3))
            h = h * (next(self.step) != 25)
            return self.head(F.relu(self.fc(h / h.std(1, keepdim=True))))

    net = Divides()
    reports = train(net, steps=60)
    assert not net.fc.weight.isfinite().all()
    return Trained(reports, "fc", severity=CRITICAL)


@network
def logarithm_of_zero() -> Trained:
    """The loss takes the logarithm of probabilities that were clipped to 0."""
    net = mlp()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        likely = net(x).softmax(1).gather(1, y[:, None])
        return -(likely * (likely > 0.2)).log().mean()

    reports = train(net, loss, steps=40)
    assert net(X).isnan().any()
    return Trained(reports, None, severity=CRITICAL)


@network
def root_of_zero() -> Trained:
    """The loss is finite and its gradient is not: the root of a sum that is 0."""
    net = mlp()
    reports = train(net, lambda net, x, y: classify(net, x, y) + (0 * net[0].weight).sum().abs().sqrt(), steps=40)
    assert net[0].weight.isnan().any()
    return Trained(reports, None, severity=CRITICAL)


# Parameters that cannot learn: in each, the weight of the layer ends as it began.


class Detached(Functional):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc2(F.relu(self.fc1(x)).detach())))


def unmoved(net: nn.Module, layer: str, run: Callable[[], Any]) -> Any:
    weight = net.get_submodule(layer).weight
    before = weight.detach().clone()
    reports = run()
    assert torch.equal(weight, before)
    return reports


@network
def cut_by_detach() -> Trained:
    net = Detached()
    return Trained(unmoved(net, "fc1", lambda: train(net)), "fc1", severity=SERIOUS)


@network
def cut_by_no_grad() -> Trained:
    class Frozen(Encoder):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                h = self.embed(x.view(-1, 8, 8))
            return self.head(self.block(h).mean(1))

    net = Frozen()
    return Trained(unmoved(net, "embed", lambda: train(net)), "embed", severity=SERIOUS)


@network
def generator_cut_off() -> Trained:
    gan = GAN(cut=True)
    return Trained(unmoved(gan, "generator.2", lambda: fit(gan)), "generator.2", severity=SERIOUS)


@network
def in_no_optimizer() -> Trained:
    net = mlp()
    lit = Lit(net, lambda net: torch.optim.Adam([*net[0].parameters(), *net[4].parameters()], 1e-3))
    return Trained(unmoved(net, "2", lambda: fit(lit)), "net.2", severity=SERIOUS)


@network
def rate_of_zero() -> Trained:
    net = conv_net(relu_inplace, norm=True)

    def groups(net: nn.Module) -> torch.optim.Optimizer:
        still = [*net[4].parameters()]
        rest = [p for p in net.parameters() if all(p is not q for q in still)]
        return torch.optim.Adam([{"params": rest}, {"params": still, "lr": 0.0}], 1e-3)

    lit = Lit(net, groups)
    return Trained(unmoved(net, "4", lambda: fit(lit, epochs=2)), "net.4", severity=SERIOUS)


@network
def never_called() -> Trained:
    net = Functional()
    net.spare = nn.Linear(3, 3)
    return Trained(unmoved(net, "spare", lambda: train(net)), "spare", severity=Severity.WARNING)


@network
def all_stand_still() -> Trained:
    net = mlp()
    return Trained(unmoved(net, "2", lambda: fit(Lit(net, lambda net: sgd(net, 0.0)))), "net.2", severity=CRITICAL)


# Healthy networks, some of them tempting. Each has learned what it was given.


@network
def plain() -> Trained:
    net = mlp()
    reports = train(net, steps=160)
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def sparse() -> Trained:
    """Each neuron fires on one row in seven, and each does for some digit."""
    net = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))
    nn.init.constant_(net[1].bias, -1.2)
    reports = train(net, steps=160)
    on = (written_by(net, net[1]) > 0).float().mean(0)
    assert on.mean() < 0.2
    assert on.min() > 0
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def dropout() -> Trained:
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.7), nn.Linear(128, 10))
    reports = train(net, steps=160)
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def frozen_backbone() -> Trained:
    net = mlp()
    train(net, steps=100)
    net[:4].requires_grad_(False)
    nn.init.normal_(net[4].weight, std=0.01)
    reports = train(net, steps=100)
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def tanh_far_out() -> Trained:
    """Half of the activations beyond 0.9."""
    net = mlp(nn.Tanh)
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight *= 6
    reports = train(net, steps=160)
    assert accuracy(net) > 0.9
    assert (written_by(net, net[3]).abs() > 0.9).float().mean() > 0.5
    return Trained(reports)


@network
def open_gates() -> Trained:
    """Sigmoids that multiply, open on nearly all rows: in a highway layer and in front of a convolution's channels."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.gate, self.head = nn.Linear(64, 96), nn.Linear(64, 96), nn.Linear(96, 10)
            nn.init.constant_(self.gate.bias, 7.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.sigmoid(self.gate(x)) * F.relu(self.fc(x)))

    net = Gated()
    reports = train(net, steps=160)
    assert accuracy(net) > 0.9
    assert (written_by(net, net.gate).sigmoid() > 0.99).float().mean() > 0.8
    return Trained(reports)


@network
def closed_highway() -> Trained:
    """A highway network carries its input at first: gates that ``torch.lerp`` applies, closed by their bias."""

    class Highway(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.gate, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
            nn.init.constant_(self.gate.bias, -7.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.lerp(x, F.relu(self.fc(x)), torch.sigmoid(self.gate(x))))

    net = Highway()
    closed = (written_by(net, net.gate).sigmoid() < 0.01).float().mean()
    assert closed > 0.95
    reports = train(net, steps=200)
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def sure_of_itself() -> Trained:
    """Pixels that are black or white, from a sigmoid that saturates: it is the output."""
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())
    pixels = (X > 0.5).float()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy(net(x), x)

    reports = train(net, loss, data=(pixels, Y), optimizer=adam(net, 5e-3), steps=300, window=50)
    out = net(pixels)
    assert F.mse_loss(out, pixels) < 0.02
    assert ((out < 0.01) | (out > 0.99)).float().mean() > 0.8
    return Trained(reports)


@network
def relu6() -> Trained:
    net = conv_net(nn.ReLU6)
    reports = train(net, optimizer=adam(net, 3e-3), steps=160)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def hardswish() -> Trained:
    net = conv_net(nn.Hardswish, norm=True)
    reports = train(net, optimizer=adam(net, 3e-3), steps=120)
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def transformer() -> Trained:
    net = Encoder("gelu")
    reports = train(net, optimizer=adam(net, 3e-3), steps=160)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def converged() -> Trained:
    """A perfect fit on a few digits; single batches still have gradients a thousand times those of others."""
    net, few = mlp(), (X[:128], Y[:128])
    reports = train(net, data=few, optimizer=adam(net, 5e-3), steps=300, batch=16)
    assert classify(net, *few) < 2e-3
    return Trained(reports)


@network
def resumed() -> Trained:
    """A network that had learned everything before the watch began: its loss only jitters."""
    net = mlp(width=64)
    optimizer = adam(net, 1e-2)
    for _ in range(200):
        rows = torch.randint(len(X), (512,))
        optimizer.zero_grad()
        classify(net, X[rows], Y[rows]).backward()
        optimizer.step()
    reports = train(net, optimizer=adam(net, 1e-4), steps=200, batch=4)
    assert accuracy(net) > 0.99
    return Trained(reports)


@network
def warm_up() -> Trained:
    net = mlp()
    reports = train(net, optimizer=adam(net, 2e-3), rate=lambda step: min(1.0, step / 80), steps=160)
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def accumulating() -> Trained:
    net = mlp()
    reports = fit(Lit(net, lambda net: adam(net, 2e-3)), batch=32, accumulate_grad_batches=4, epochs=5)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def tiny_batches() -> Trained:
    net = mlp(depth=1)
    reports = train(net, batch=2, steps=600, window=100, every=5)
    assert accuracy(net) > 0.8
    return Trained(reports)


class Scaled(nn.Module):
    """A residual branch times a learned scale."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.down(F.gelu(self.up(self.norm(x))))


@network
def layer_scale() -> Trained:
    """CaiT's layer scale: branches that start at a millionth."""
    net = nn.Sequential(nn.Linear(64, 32), *(Scaled(32, 1e-6) for _ in range(2)), nn.LayerNorm(32), nn.Linear(32, 10))
    reports = train(net, optimizer=adam(net, 2e-3), steps=120)
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def low_rank_adapter() -> Trained:
    """LoRA on a frozen network: B starts at zero, so that A has no gradient at first."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.a, self.b = nn.Linear(base.in_features, 8, bias=False), nn.Linear(8, base.out_features, bias=False)
            nn.init.zeros_(self.b.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.b(self.a(x))

    net = mlp()
    train(net, steps=60)
    net = nn.Sequential(*(Adapted(m) if isinstance(m, nn.Linear) else m for m in net))
    reports = train(net, optimizer=torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 3e-3), steps=160)
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def outlier_neuron() -> Trained:
    """One neuron speaks 300 times as loud, and is read 300 times as softly."""
    net = mlp()
    with torch.no_grad():
        net[0].weight[3] *= 300
        net[2].weight[:, 3] /= 300
    reports = train(net, steps=160)
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def large_targets() -> Trained:
    """Regression in ten thousands: gradients have norms above 9,000, and it learns."""
    net = mlp(depth=1)
    targets = 2e4 * X @ torch.randn(64)
    first = torch.autograd.grad(regress(net, X, targets), list(net.parameters()))
    assert torch.cat([g.flatten() for g in first]).norm() > 9000
    reports = train(net, regress, data=(X, targets), optimizer=adam(net, 0.2), steps=200)
    assert regress(net, X, targets) < 0.25 * targets.var()
    return Trained(reports)


@network
def noisy_targets() -> Trained:
    """Most of the loss is noise that nothing can learn, so that it falls by a fifth only."""
    net = mlp(depth=1)
    truth = X @ torch.randn(64)
    targets = truth + 2 * truth.std() * torch.randn(len(X))
    reports = train(net, regress, data=(X, targets), optimizer=adam(net, 3e-3), steps=200)
    assert torch.corrcoef(torch.stack([net(X)[:, 0], truth]))[0, 1] > 0.8
    return Trained(reports)


@network
def teacher() -> Trained:
    """A teacher with requires_grad that no optimizer has and no gradient reaches, and an average of the weights."""

    class Distilled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student, self.teacher = mlp(), mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.student(x)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            hint = net.teacher(x).softmax(-1)
            for slow, fast in zip(net.teacher.parameters(), net.student.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
        return classify(net, x, y) + 0.1 * F.cross_entropy(net.student(x), hint)

    net = Distilled()
    reports = fit(Lit(net, lambda net: adam(net.student), loss), epochs=4)
    assert accuracy(net.student) > 0.85
    return Trained(reports)


@network
def raw_pixels() -> Trained:
    """Inputs from 0 to 255."""
    net = mlp()
    reports = train(net, data=(255 * X, Y), steps=160)
    assert accuracy(net, 255 * X) > 0.9
    return Trained(reports)


@network
def two_towers() -> Trained:
    """One tower reads pixels, the other amounts of money, which a norm behind it brings down."""

    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pixels, self.money = nn.Linear(64, 64), nn.Linear(2, 16)
            self.norm, self.head = nn.BatchNorm1d(16), nn.Linear(80, 10)

        def forward(self, x: Tensor) -> Tensor:
            pixels, money = F.relu(self.pixels(x[:, :64])), F.relu(self.money(x[:, 64:]))
            return self.head(torch.cat([pixels, self.norm(money)], 1))

    net, data = Towers(), torch.cat([X, 1e7 * torch.randn(len(X), 2)], 1)
    reports = train(net, data=(data, Y), steps=200)
    assert accuracy(net, data) > 0.85
    return Trained(reports)


@network
def gan() -> Trained:
    torch.manual_seed(0)
    net = GAN()
    reports = fit(net, every=4, window=40, epochs=12)
    fakes = net.generator(torch.randn(2000, 16))
    far = (X * 2 - 1).mean(0)
    assert (fakes.mean(0) - far).abs().mean() < 0.8 * far.abs().mean()
    return Trained(reports)


@network
def taking_turns() -> Trained:
    """Two heads learn on even and on odd batches; one batch in ten is measured, in one epoch the even ones only."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.digit, self.parity = nn.Linear(64, 64), nn.Linear(64, 10), nn.Linear(64, 2)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        h = F.relu(net.stem(x))
        return F.cross_entropy(net.parity(h), y % 2) if net.batch_index % 2 else F.cross_entropy(net.digit(h), y)

    net = Heads()
    reports = fit(Lit(net, lambda net: adam(net, 2e-3), loss), batch=32, every=10, epochs=4)
    assert (net.parity(F.relu(net.stem(X))).argmax(1) == Y % 2).float().mean() > 0.8
    return Trained(reports)


@network
def rare_experts() -> Trained:
    """A mixture of experts of which one is asked a few times an epoch."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
            self.often, self.rare = mlp(depth=1, width=32, inputs=32), mlp(depth=1, width=32, inputs=32)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.stem(x))
            seldom = x.sum(1) > DARKEST
            out = self.head(h) + self.often(h)
            return out.index_add(0, seldom.nonzero()[:, 0], self.rare(h[seldom])) if seldom.any() else out

    net = Experts()
    before = net.rare[0].weight.detach().clone()
    reports = fit(Lit(net, lambda net: adam(net, 2e-3)), every=10, epochs=6)
    assert accuracy(net) > 0.85
    assert not torch.equal(net.rare[0].weight, before)
    return Trained(reports)


DARKEST = X.sum(1).sort().values[-16].item()


@network
def wide_with_blank_pixels() -> Trained:
    """1,024 neurons on digits whose edges are blank: the weights of blank pixels never move, all others do."""
    net = mlp(depth=1, width=1024)
    before = net[0].weight.detach().clone()
    reports = fit(Lit(net, lambda net: sgd(net, 0.1)))
    assert accuracy(net) > 0.8
    assert (net[0].weight != before).float().mean() > 0.8
    return Trained(reports)


HEALTHY = [
    plain,
    sparse,
    dropout,
    frozen_backbone,
    tanh_far_out,
    open_gates,
    closed_highway,
    sure_of_itself,
    relu6,
    hardswish,
    transformer,
    converged,
    resumed,
    warm_up,
    accumulating,
    tiny_batches,
    layer_scale,
    low_rank_adapter,
    outlier_neuron,
    large_targets,
    noisy_targets,
    teacher,
    raw_pixels,
    two_towers,
    gan,
    taking_turns,
    rare_experts,
    wide_with_blank_pixels,
]
