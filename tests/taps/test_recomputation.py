"""Forwards and backwards that run twice are counted once."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

from lightning_neurohealth import Monitor
from tests.taps.networks import Functional
from tests.training import MLP, Learner, fit, make_data, watch_step


class Checkpointed(nn.Module):
    """The middle is computed again in backward."""

    def __init__(self, checkpointed: Callable[..., Tensor], middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 8), middle, nn.Linear(8, 1)
        self.checkpointed = checkpointed

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.checkpointed(self.middle, self.first(x)))


def modules() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 8), nn.Tanh())


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("build", [modules, Functional])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant: bool, build: Callable[[], nn.Module], steps: int) -> None:
    torch.manual_seed(0)
    plain = Checkpointed(lambda middle, x: middle(x), build()).double()
    again = copy.deepcopy(plain)
    again.checkpointed = lambda middle, x: checkpoint(middle, x, use_reentrant=use_reentrant)
    x = torch.randn(10, 4, dtype=torch.float64)
    expected, report = watch_step(plain, x, steps=steps)[1], watch_step(again, x, steps=steps)[1]
    assert list(report) == list(expected)
    assert report.coverage == expected.coverage
    for name, layer in expected.items():
        assert float(report[name]["activation_rows"]) == 10 * steps
        assert report[name].activation == layer.activation
        for measure in layer:
            torch.testing.assert_close(
                report[name][measure], layer[measure], rtol=1e-9, atol=0, equal_nan=True, msg=f"{name} {measure}"
            )


@pytest.mark.parametrize("build", [modules, Functional])
def test_reentrant_checkpoint_under_a_trainer(build: Callable[[], nn.Module]) -> None:
    """Where what a backward pass calls is no new layer."""
    torch.manual_seed(0)
    plain = Checkpointed(lambda middle, x: middle(x), build()).double()
    again = copy.deepcopy(plain)
    again.checkpointed = lambda middle, x: checkpoint(middle, x, use_reentrant=True)
    data = make_data(dtype=torch.float64)
    expected, report = fit(plain, data).report, fit(again, data).report
    assert list(report) == list(expected)
    for name, layer in expected.items():
        for measure in ("activation_rows", "on_rate", "gradient_flow", "gradient_pass_rate"):
            torch.testing.assert_close(
                report[name][measure], layer[measure], rtol=1e-9, atol=0, msg=f"{name} {measure}"
            )
    assert not _get_current_function_mode_stack()


def test_checkpointing_of_the_whole_model() -> None:
    class Whole(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=False)

    _, report = watch_step(Whole(), torch.randn(10, 4), steps=2)
    assert list(report) == ["fc1", "fc2"]
    assert (report["fc1"]["gradient_flow"] > 0).any()


class Penalised(Learner):
    """The gradient of the output with respect to the input is kept small."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = batch[0].requires_grad_()
        out = self(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return F.mse_loss(out, batch[1]) + slope.square().mean()


def test_gradient_penalty_is_not_counted_twice() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    data = make_data(rows=20, batch=20, dtype=torch.float64)
    report = fit(Penalised(net, lr=0.0), data).report

    x, y = next(iter(data))
    x.requires_grad_()
    a = torch.tanh(net[0](x))
    out = net[2](a)
    (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    (gradient,) = torch.autograd.grad(F.mse_loss(out, y) + slope.square().mean(), a)
    torch.testing.assert_close(report["net.0"]["gradient_flow"], gradient.abs().mean(0), rtol=1e-9, atol=0)
    assert float(report["net.0"]["activation_rows"]) == 20


def test_two_backwards_of_two_losses_add_up() -> None:
    """The rows of a layer that two losses reach are counted for each of them."""
    net, x = MLP().double(), torch.randn(20, 4, dtype=torch.float64)
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        net(x).mean().backward()
        net(x).mean().backward()
    report = monitor.close()
    monitor.remove()
    torch.testing.assert_close(
        report["fc1"]["gradient_flow"], net.fc2.weight.abs().flatten().detach() / 20, rtol=1e-12, atol=0
    )


WRITTEN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "shared module": lambda net, z: net.act(z),
    "shared module behind a norm": lambda net, z: net.act(net.norm(z)),
    "function": lambda net, z: F.relu(z),
    "function and gate": lambda net, z: F.relu(z) * torch.sigmoid(z.flip(1)),
    "SiLU": lambda net, z: z * torch.sigmoid(z),
    "SiLU with a module": lambda net, z: z * net.sigmoid(z),
    "hardswish": lambda net, z: z * F.relu6(z + 3) / 6,
}


class Stretch(nn.Module):
    def __init__(self, net: nn.Module, first: bool) -> None:
        super().__init__()
        self.first, self._net, self.fc = first, [net], nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        (net,) = self._net
        return net.function(net, self.fc(net.function(net, x) if self.first else x))


class Stretches(nn.Module):
    """Two stretches that may be computed again, with one activation for all."""

    def __init__(self, written: str, again: bool, as_modules: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.again, self.as_modules = WRITTEN[written], again, as_modules
        self.sigmoid = nn.Sigmoid()
        self.act, self.norm = nn.Tanh(), nn.BatchNorm1d(8) if "norm" in written else nn.Identity()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 1)
        self.stretches = nn.ModuleList([Stretch(self, first) for first in (True, False)])
        for parameter in self.parameters():
            nn.init.normal_(parameter)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for part in self.stretches:
            run = part if self.as_modules else part.forward
            x = checkpoint(run, x, use_reentrant=True) if self.again else run(x)
        return self.last(x)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("written", WRITTEN)
def test_gradients_in_reentrant_checkpoints_find_their_layer(written: str, steps: int) -> None:
    x = torch.randn(20, 4, dtype=torch.float64)
    expected, report = (watch_step(Stretches(written, again), x, steps=steps)[1] for again in (False, True))
    assert list(report) == list(expected)
    for name, layer in expected.items():
        assert "gradient_flow" in layer
        for measure in layer:
            torch.testing.assert_close(
                report[name][measure], layer[measure], rtol=1e-9, atol=1e-15, equal_nan=True, msg=f"{name} {measure}"
            )
    assert report.coverage == expected.coverage


@pytest.mark.parametrize("written", ["function", "SiLU"])
def test_gradients_that_a_reentrant_checkpoint_hides_are_named(written: str) -> None:
    net, x = Stretches(written, again=True, as_modules=False), torch.randn(20, 4, dtype=torch.float64)
    _, report = watch_step(net, x, steps=2)
    hidden = {name for name, layer in report.items() if "gradient_flow" not in layer}
    assert hidden == {"first", "stretches.0.fc", "stretches.1.fc"}
    assert report.coverage.unwatched.keys() == hidden
    assert all("gradients are not seen" in why for why in report.coverage.unwatched.values())
