"""Sick networks, trained for a moment on digits; healthy ones are in ``rules/healthy.py``.

Each function trains once a session and gives what was reported. Its fault is checked in it by plain torch on the data,
without the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Severity
from tests.rules.architectures import GAN, Encoder, Functional, biased, conv_net, mlp, relu_inplace, shrunk
from tests.rules.healthy import HEALTHY as HEALTHY
from tests.rules.trained import (
    Lit,
    Trained,
    X,
    Y,
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


def dead_head(net: Encoder, head: int = 1) -> nn.Module:
    """No values, and nobody who reads them: no gradient brings it back."""
    attention, channels = net.block.self_attn, slice(8 * head, 8 * head + 8)
    with torch.no_grad():
        for of_values in (attention.in_proj_weight.view(3, 32, 32)[2], attention.in_proj_bias.view(3, 32)[2]):
            of_values[channels] = 0
        attention.out_proj.weight[:, channels] = 0
    return net


@network
def dead_head_of_attention() -> Trained:
    net = Encoder()
    dead_head(net)
    reports = train(net)
    values = written_by(net, net.block.norm1) @ net.block.self_attn.in_proj_weight[64:].T
    given = (values + net.block.self_attn.in_proj_bias[64:]).unflatten(-1, (4, 8))
    return Trained(reports, "block.self_attn.heads", indices((given == 0).all(0).all(-1)), Severity.WARNING)


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
    reports = fit(gan, every=4, window=4, epochs=4)
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
    return Trained(reports, severity=CRITICAL)


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
