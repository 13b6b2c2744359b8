"""Which weight a layer has, and what it is where its module computes it anew in each forward."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from lightning_neurohealth import Monitor, Report
from tests.training import layers_of


class Doubled(nn.Module):
    """A parametrization that remembers in training how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.asked += self.training
        return 2 * weight


def doubled(module: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(module, "weight", Doubled())


def old_weight_norm(module: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return weight_norm(module)


def pruned(module: nn.Module) -> nn.Module:
    return prune.l1_unstructured(module, "weight", 0.4)


def pruned_twice(module: nn.Module) -> nn.Module:
    return prune.random_unstructured(pruned(module), "weight", 0.2)


# what is done to a module, and the name of the parameter that has the shape of its weight
KINDS: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "weight_norm": (parametrizations.weight_norm, "parametrizations.weight.original1"),
    "spectral_norm": (parametrizations.spectral_norm, "parametrizations.weight.original"),
    "orthogonal": (parametrizations.orthogonal, "parametrizations.weight.original"),
    "doubled": (doubled, "parametrizations.weight.original"),
    "old weight_norm": (old_weight_norm, "weight_v"),
    "old spectral_norm": (spectral_norm, "weight_orig"),
    "pruned": (pruned, "weight_orig"),
    "pruned twice": (pruned_twice, "weight_orig"),
}
MEASURES = ["weight_norm", "weight_change", "gradient_norm", "outgoing_weight_norm", "dead_weight_rate", "gradient_max"]

every_kind = pytest.mark.parametrize("kind", KINDS)


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    change, _ = KINDS[kind]
    return nn.Sequential(change(nn.Linear(5, 4)), nn.Tanh(), change(nn.Linear(4, 3))).double()


def effective(kind: str, net: nn.Module, name: str) -> Tensor:
    """What the module multiplies with, seen from outside: the outputs of a copy for unit vectors, in evaluation."""
    copy = network(kind)
    copy.load_state_dict(net.state_dict())
    module = copy.eval()[int(name)]
    eye = torch.eye(module.in_features, dtype=torch.float64)
    return (module(eye) - module(torch.zeros_like(eye))).detach().T


def trained(kind: str, net: nn.Module, watched: bool, steps: int = 3) -> tuple[Report | None, list[Tensor]]:
    """Weights before each step and at the end, and the report where it is watched."""
    monitor = Monitor(net, every_n_steps=1, measures=MEASURES) if watched else None
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    generator, weights = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x = torch.randn(6, 5, dtype=torch.float64, generator=generator)
        if not watched:
            weights.append(effective(kind, net, "0"))
        optimizer.zero_grad()
        if monitor is not None:
            monitor.begin_step()
            monitor.begin_batch()
        net(x).square().sum().backward()
        if monitor is not None:
            monitor.end_batch()
            monitor.before_update()
        optimizer.step()
        if monitor is not None:
            monitor.end_step(stepped=True)
    report = None if monitor is None else monitor.close()
    return report, [*weights, effective(kind, net, "0")]


@every_kind
def test_weight_is_what_the_layer_multiplies_with(kind: str) -> None:
    plain, watched = network(kind), network(kind)
    _, weights = trained(kind, plain, watched=False)
    report, _ = trained(kind, watched, watched=True)
    assert report is not None
    assert not {what: why for what, why in report.coverage.missed.items() if "failed" in why}
    for name in ("0", "2"):
        weight = effective(kind, watched, name)
        torch.testing.assert_close(report[name]["weight_norm"], weight.norm(dim=1), rtol=1e-9, atol=1e-12)
        rate = (weight.abs() <= 1e-8).double().mean(1)
        assert (rate > 0).any() == kind.startswith("pruned")
        torch.testing.assert_close(report[name]["dead_weight_rate"], rate)
    torch.testing.assert_close(report["0"]["outgoing_weight_norm"], effective(kind, watched, "2").norm(dim=0))
    if "spectral" not in kind:  # whose weight also moves with its estimate of the largest singular value
        changes = torch.stack([after - before for before, after in pairwise(weights)])
        torch.testing.assert_close(report["0"]["weight_change"], changes.square().sum(2).mean(0).sqrt())


@every_kind
def test_training_is_untouched(kind: str) -> None:
    plain, watched = network(kind), network(kind)
    trained(kind, plain, watched=False)
    trained(kind, watched, watched=True)
    states = zip(plain.state_dict().values(), watched.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)
    assert all(module.training for module in watched.modules())
    asked = [[m.asked for m in net.modules() if isinstance(m, Doubled)] for net in (plain, watched)]
    assert asked[0] == asked[1]


@every_kind
def test_gradient_is_that_of_the_parameter_of_its_shape(kind: str) -> None:
    net = network(kind)
    report, _ = trained(kind, net, watched=True, steps=1)
    assert report is not None
    layers = layers_of(net, torch.randn(6, 5, dtype=torch.float64))
    name = KINDS[kind][1]
    assert [layer.weight for layer in layers.values()] == [f"0.{name}", f"2.{name}"]
    assert [(layer.weight_axis, layer.fan_in) for layer in layers.values()] == [(0, 5), (0, 4)]
    net = network(kind)
    generator = torch.Generator().manual_seed(1)
    net(torch.randn(6, 5, dtype=torch.float64, generator=generator)).square().sum().backward()
    gradient = dict(net.named_parameters())[f"0.{name}"].grad
    torch.testing.assert_close(report["0"]["gradient_norm"], gradient.norm())
    torch.testing.assert_close(report["0"]["gradient_max"], gradient.max())


@every_kind
def test_coverage_counts_its_parameters(kind: str) -> None:
    report, _ = trained(kind, network(kind), watched=True, steps=1)
    assert report is not None
    assert report.coverage.unwatched == {}
    assert report.coverage.parameters == 1


def test_kernels_of_convolutions() -> None:
    net = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(2, 3, 3)), nn.ReLU(), nn.ConvTranspose1d(4, 5, 2))
    monitor = Monitor(net[:2], measures=["weight_norm"])
    with monitor:
        net[:2](torch.randn(2, 2, 4, 4)).sum().backward()
    report = monitor.close()
    torch.testing.assert_close(report["0"]["weight_norm"], net[0].weight.detach().flatten(1).double().norm(dim=1))


class Lora(nn.Module):
    """A low-rank change of a weight that does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(4, 1)), nn.Parameter(torch.randn(1, 5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.a @ self.b


def test_parametrization_with_matrices_of_its_own() -> None:
    linear = nn.Linear(5, 4)
    linear.weight.requires_grad_(False)
    net = nn.Sequential(parametrize.register_parametrization(linear, "weight", Lora()), nn.Tanh(), nn.Linear(4, 1))
    monitor = Monitor(net, measures=["weight_norm", "on_rate"])
    with monitor:
        net(torch.randn(3, 5)).sum().backward()
    found = monitor.close()
    assert list(found) == ["0", "2"]
    torch.testing.assert_close(found["0"]["weight_norm"], linear.weight.detach().double().norm(dim=1))
    assert found.coverage.parameters == 1


@pytest.mark.parametrize("module", [nn.RNN(3, 4), nn.LSTM(3, 4), nn.GRU(3, 4)], ids=lambda m: type(m).__name__)
def test_recurrent_neurons_have_no_single_weight(module: nn.Module) -> None:
    """They read by two matrices, and gates by several rows of each."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = module, nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0])

    layer = layers_of(Last(), torch.randn(5, 2, 3))["rnn"]
    assert (layer.weight, layer.weight_axis) == ("rnn.weight_ih_l0", None)


def test_own_linear_module_has_its_bias() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(F.linear(x, self.weight, self.bias))

    net = nn.Sequential(Own(), nn.Linear(4, 1))
    monitor = Monitor(net, measures=["bias_negativity"])
    with monitor:
        net(torch.randn(5, 3)).sum().backward()
    own = net[0]
    expected = own.bias.detach().double() / (own.weight.detach().double().norm(dim=1) + 1e-8)
    torch.testing.assert_close(monitor.close()["0"]["bias_negativity"], expected)


def test_a_layer_without_an_owner_has_no_bias_of_the_models() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.head = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)
            self.bias = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(self.fc(x) + self.fc(-x) + self.bias))

    net = Shifted()
    monitor = Monitor(net, measures=["bias_negativity", "bias_weight_ratio", "on_rate"])
    with monitor:
        net(torch.randn(5, 3)).sum().backward()
    report = monitor.close()
    assert "act" in report
    assert "bias_negativity" not in report["act"]
