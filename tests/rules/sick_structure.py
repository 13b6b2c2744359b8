"""Networks whose structure is at fault: how they start, weights that are zero, copies, activations without a bend.

Each function trains once a session and gives what was reported; the fault is checked by plain torch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from lightning_neurohealth import Severity
from tests.rules.architectures import Encoder, conv_net, mlp, relu_inplace, shrunk
from tests.rules.trained import Trained, X, Y, accuracy, adam, classify, indices, network, sgd, train, written_by

SERIOUS, WARNING = Severity.SERIOUS, Severity.WARNING


def spreads(net: nn.Module, modules: list[nn.Module], axis: int = -1) -> list[float]:
    """Standard deviation over the data of what each module writes, median over neurons."""
    return [written_by(net, module, axis=axis).std(0).median().item() for module in modules]


def before_and_after(net: nn.Module, steps: int, **options: Any) -> tuple[float, float, Any]:
    """Loss on all of the data before and after a training, and its reports."""
    before = classify(net, X, Y).item()
    reports = train(net, steps=steps, **options)
    return before, classify(net, X, Y).item(), reports


# How a network starts


@network
def constant_weights() -> Trained:
    """Every weight 0.1: the neurons of a layer compute the same, and always will."""
    net = mlp(nn.Tanh)
    for module in (net[0], net[2], net[4]):
        nn.init.constant_(module.weight, 0.1)
        nn.init.zeros_(module.bias)
    reports = train(net)
    assert torch.allclose(net[0].weight, net[0].weight[:1].expand_as(net[0].weight))
    return Trained(reports, "0")


@network
def constant_kernels() -> Trained:
    net = conv_net(relu_inplace)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(module.weight, 0.05)
            nn.init.zeros_(module.bias)
    reports = train(net, steps=60)
    assert torch.allclose(net[3].weight, net[3].weight[:1].expand_as(net[3].weight))
    return Trained(reports, "3")


@network
def all_zero() -> Trained:
    net = mlp()
    for p in net.parameters():
        nn.init.zeros_(p)
    reports = train(net)
    assert not net[0].weight.any()
    assert not net[2].weight.any()
    return Trained(reports, "2")


@network
def too_small() -> Trained:
    """A standard deviation of 0.02, a seventh of He's: the loss stays where it is."""
    net = shrunk(mlp(depth=6), 0.02)
    sizes = spreads(net, [m for m in net if isinstance(m, nn.ReLU)])
    assert sizes[-1] < 0.01 * sizes[0]
    before, after, reports = before_and_after(net, 160, optimizer=sgd(net, 0.05))
    assert after > 0.97 * before
    return Trained(reports, "4")


@network
def too_small_kernels() -> Trained:
    net = shrunk(conv_net(relu_inplace, depth=5), 0.01)
    sizes = spreads(net, [net[i] for i in (2, 4, 6, 8, 10)], axis=1)
    assert sizes[-1] < 0.01 * sizes[0]
    before, after, reports = before_and_after(net, 120, optimizer=sgd(net, 0.05))
    assert after > 0.97 * before
    return Trained(reports, "3")


@network
def one_small_layer() -> Trained:
    """One layer of four has a thousandth of the weights that it should have."""
    net = mlp(depth=4)
    with torch.no_grad():
        net[4].weight *= 1e-3
        net[4].bias.zero_()
    sizes = spreads(net, [m for m in net if isinstance(m, nn.ReLU)])
    assert sizes[2] < 0.01 * sizes[1]
    before, after, reports = before_and_after(net, 120, optimizer=sgd(net, 0.05))
    assert after > 0.97 * before
    return Trained(reports, "4")


@network
def too_large() -> Trained:
    """Tanh with weights of standard deviation 1.5: gradients grow towards the input."""
    net = shrunk(mlp(nn.Tanh, depth=8, width=64), 1.5)
    gradients = torch.autograd.grad(classify(net, X, Y), [m.weight for m in net if isinstance(m, nn.Linear)][:-1])
    assert gradients[0].square().mean().sqrt() > 100 * gradients[-1].square().mean().sqrt()
    before, after, reports = before_and_after(net, 120, optimizer=sgd(net, 1e-3))
    assert after > 0.95 * before
    return Trained(reports)


# Weights that are zero


def zeros(weight: Tensor) -> float:
    return (weight.abs() <= 1e-8).float().mean().item()


class Shrinking(torch.optim.SGD):
    """SGD with a proximal step of L1 on one weight."""

    def __init__(self, net: nn.Module, weight: nn.Parameter, lr: float, penalty: float) -> None:
        super().__init__(net.parameters(), lr)
        self.target, self.penalty = weight, penalty

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            self.target.copy_(F.softshrink(self.target, self.penalty))
        return loss


@network
def driven_to_zero() -> Trained:
    net = mlp()
    reports = train(net, optimizer=Shrinking(net, net[2].weight, 0.05, 4e-3))
    assert zeros(net[2].weight) > 0.9
    return Trained(reports, "2")


@network
def kernels_driven_to_zero() -> Trained:
    net = conv_net(relu_inplace)
    reports = train(net, optimizer=Shrinking(net, net[3].weight, 0.02, 4e-3), steps=60)
    assert zeros(net[3].weight) > 0.9
    return Trained(reports, "3")


@network
def zeros_from_the_start() -> Trained:
    """95 % of a matrix of a transformer is zero, and the learning rate too small to change that."""
    net = Encoder()
    with torch.no_grad():
        net.block.linear1.weight *= torch.rand_like(net.block.linear1.weight) > 0.95
    reports = train(net, optimizer=sgd(net, 1e-9))
    assert zeros(net.block.linear1.weight) > 0.9
    return Trained(reports, "block.linear1")


# Copies


def copied(weight: Tensor) -> frozenset[int]:
    """Neurons with another one whose weights are equal to a thousandth, pair by pair."""
    w = weight.detach().flatten(1).double()
    apart = (w[:, None] - w).norm(dim=2) / w.norm(dim=1).clamp_min(1e-30)
    return indices((apart.fill_diagonal_(1) <= 1e-3).any(1))


def copy(one: nn.Module, other: nn.Module, number: int, axis_of_reader: int = 1) -> None:
    """The first neurons become copies of the first, and the next module reads them all alike."""
    with torch.no_grad():
        one.weight[:number] = one.weight[:1]
        one.bias[:number] = one.bias[:1]
        read = other.weight.movedim(axis_of_reader, 0)
        read[:number] = read[:1] / number


@network
def copies_in_an_mlp() -> Trained:
    net = mlp()
    copy(net[0], net[2], 40)
    reports = train(net)
    return Trained(reports, "0", copied(net[0].weight))


@network
def copied_kernels() -> Trained:
    net = conv_net(relu_inplace)
    copy(net[1], net[3], 6)
    reports = train(net, steps=60)
    return Trained(reports, "1", copied(net[1].weight))


@network
def copies_in_a_transformer() -> Trained:
    net = Encoder("gelu")
    copy(net.block.linear1, net.block.linear2, 40)
    reports = train(net, steps=60, optimizer=sgd(net, 1e-2))
    return Trained(reports, "block.linear1", copied(net.block.linear1.weight))


# Activations without a bend


def prelu_net(start: float) -> nn.Sequential:
    net = mlp(nn.PReLU)
    for module in net:
        if isinstance(module, nn.PReLU):
            nn.init.constant_(module.weight, start)
    return net


@network
def slope_learned_to_one() -> Trained:
    """Targets that are linear in the pixels: the second activation is drawn to a slope of 1."""
    net = nn.Sequential(nn.Linear(64, 32), nn.PReLU(), nn.Linear(32, 10))
    net[0].weight.requires_grad_(False)
    teacher = torch.randn(32, 10)
    targets = (net[0](X) @ teacher).detach()
    with torch.no_grad():
        net[2].weight.copy_(teacher.T)
        net[2].bias.zero_()
    reports = train(
        net, lambda net, x, y: F.mse_loss(net(x), y), data=(X, targets), optimizer=adam(net[1], 2e-2), steps=160
    )
    assert abs(net[1].weight.item() - 1) < 0.005
    return Trained(reports, "0", severity=WARNING)


@network
def slopes_of_channels_at_one() -> Trained:
    net = conv_net(lambda: nn.PReLU(16, init=1.0))
    reports = train(net, optimizer=sgd(net, 1e-3), steps=60)
    assert (net[2].weight - 1).abs().max() < 0.01
    return Trained(reports, "1", severity=WARNING)


# Healthy, and tempting


@network
def deep_at_the_default() -> Trained:
    """Eight plain layers at torch's own initialisation: activations fall a hundredfold, and Adam learns from them."""
    net = mlp(nn.GELU, depth=8)
    sizes = spreads(net, [m for m in net if isinstance(m, nn.GELU)])
    assert sizes[-1] < 0.01 * sizes[0]
    reports = train(net, steps=300, every=2)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def deep_and_learned() -> Trained:
    """The same, watched only after it has learned: its loss no longer falls."""
    net = mlp(nn.GELU, depth=8)
    optimizer = adam(net, 1e-3)
    for _ in range(400):
        rows = torch.randint(len(X), (128,))
        optimizer.zero_grad()
        classify(net, X[rows], Y[rows]).backward()
        optimizer.step()
    reports = train(net, steps=120, optimizer=adam(net, 1e-6))
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def symmetry_that_breaks() -> Trained:
    """A hidden layer of equal neurons, read by random weights: the first gradients tell them apart."""
    net = mlp(nn.Tanh)
    nn.init.constant_(net[2].weight, 0.02)
    reports = train(net, steps=160)
    assert accuracy(net) > 0.8
    return Trained(reports)


class ZeroBranch(nn.Module):
    """A residual branch whose last matrix starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.relu(self.up(x)))


@network
def zero_branches() -> Trained:
    net = nn.Sequential(nn.Linear(64, 32), *(ZeroBranch(32) for _ in range(3)), nn.Linear(32, 10))
    nn.init.zeros_(net[-1].weight)
    reports = train(net, optimizer=adam(net, 2e-3), rate=lambda step: min(1.0, step / 60), steps=160)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def pruned() -> Trained:
    """Ninety-five per cent of a wide layer is masked, and it learns."""
    net = mlp(depth=2, width=256)
    prune.random_unstructured(net[2], "weight", 0.95)
    reports = train(net, optimizer=adam(net, 3e-3), steps=160)
    assert zeros(net[2].weight) > 0.9
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def one_hot_reader() -> Trained:
    """Rare words: a zero-initialised matrix reads a bag of 5,000 of which most have never come."""
    words = torch.zeros(400, 5000)
    meaning = torch.randint(0, 2, (400,))
    words[torch.arange(400), torch.randint(0, 200, (400,)) + 200 * meaning] = 1.0
    net = nn.Sequential(nn.Linear(5000, 16), nn.Tanh(), nn.Linear(16, 2))
    nn.init.zeros_(net[0].weight)
    reports = train(net, data=(words, meaning), optimizer=adam(net, 1e-2), steps=160)
    assert zeros(net[0].weight) > 0.9
    assert (net(words).argmax(1) == meaning).float().mean() > 0.9
    return Trained(reports)


@network
def dirac_kernels() -> Trained:
    """Convolutions that start as the identity: more than 99 % of their weights are zero."""
    net = conv_net(relu_inplace, depth=3, width=32)
    for module in (net[3], net[5]):
        nn.init.dirac_(module.weight)
    assert zeros(net[3].weight) > 0.99
    reports = train(net, optimizer=adam(net, 3e-3), steps=100)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def mirrored() -> Trained:
    """Each neuron has a twin of the opposite sign, as in CReLU: the layer is linear at first."""
    net = mlp(width=128)
    with torch.no_grad():
        for module in (net[0], net[2]):
            module.weight[64:] = -module.weight[:64]
            module.bias[64:] = -module.bias[:64]
    reports = train(net, steps=160)
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def depthwise() -> Trained:
    """Depthwise blurs with one kernel for every channel, and separable convolutions that learn."""
    blur = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
    nn.init.constant_(blur.weight, 1 / 9)
    separable = nn.Conv2d(16, 16, 3, padding=1, groups=16)
    net = nn.Sequential(
        *conv_net(relu_inplace, norm=True, depth=1)[:4], blur, separable, nn.Conv2d(16, 32, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    reports = train(net, optimizer=adam(net, 1e-2), steps=100)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def learned_slopes() -> Trained:
    net = prelu_net(0.9)
    reports = train(net, optimizer=adam(net, 1e-2), steps=160)
    assert accuracy(net) > 0.9
    assert abs(net[1].weight.item() - 1) > 0.02
    return Trained(reports)


TEMPTING = [
    deep_at_the_default,
    deep_and_learned,
    symmetry_that_breaks,
    zero_branches,
    pruned,
    one_hot_reader,
    dirac_kernels,
    mirrored,
    depthwise,
    learned_slopes,
]
