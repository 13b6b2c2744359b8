"""Healthy networks, many of them tempting: each has learned what it was given, as plain torch checks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.architectures import GAN, Encoder, conv_net, mlp
from tests.rules.trained import (
    Lit,
    Trained,
    X,
    Y,
    accuracy,
    adam,
    classify,
    fit,
    network,
    regress,
    sgd,
    train,
    written_by,
)


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
