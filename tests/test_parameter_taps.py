"""Gradients and updates of parameters, however the optimizer works."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report
from tests.training import MLP, Learner, fit, make_data

OF_GRADIENTS = [
    *("gradient_norm", "global_gradient_norm", "gradient_mean", "gradient_std", "gradient_min", "gradient_max"),
    *("fisher", "gradient_snr"),
]
OF_STEPS = ["weight_change", "update_ratio", "train_loss"]


class Optimized(Learner):
    """One network, one optimizer; or two, each its own and in turns."""

    def __init__(self, net: nn.Module, fused: bool, turns: bool = False) -> None:
        super().__init__(net)
        self.fused, self.automatic_optimization = fused, not turns

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        if self.automatic_optimization:
            return super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()
        return None

    def configure_optimizers(self) -> Any:
        parts = [self.net] if self.automatic_optimization else [self.net.fc1, self.net.fc2]
        kinds = [self.fused, False][: len(parts)]
        return [torch.optim.Adam(p.parameters(), 1e-2, fused=k) for p, k in zip(parts, kinds, strict=True)]


def trained(fused: bool, scale: float | None = 1024.0, turns: bool = False, **options: Any) -> Report:
    torch.manual_seed(0)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    model = Optimized(MLP(), fused, turns)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    return fit(model, make_data(), plugins=[plugin], measures=OF_GRADIENTS + OF_STEPS, rules=[], **options).report


def assert_same(report: Report, expected: Report, **tolerance: float) -> None:
    numbers = [
        {what: dict(found) for what, found in [*r.parameters.items(), *r.items(), ("run", r.run)]}
        for r in (report, expected)
    ]
    assert {"fisher", "weight_change"} <= numbers[0]["net.fc1"].keys()
    torch.testing.assert_close(numbers[0], numbers[1], equal_nan=True, **tolerance)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_loss_scale_does_not_show_in_the_gradients_of_a_fused_optimizer(accumulate: int) -> None:
    """It takes the scale off inside its step; an optimizer that is not fused finds it off."""
    options = {"accumulate_grad_batches": accumulate}
    assert_same(trained(True, **options), trained(False, **options), rtol=1e-4, atol=1e-6)


def test_one_fused_optimizer_beside_one_that_is_not() -> None:
    assert_same(trained(True, turns=True), trained(False, turns=True), rtol=1e-4, atol=1e-6)


def test_fused_optimizer_without_a_scale() -> None:
    assert_same(trained(True, scale=None), trained(False, scale=None), rtol=1e-4, atol=1e-6)


def plain_steps(net: nn.Module, inside: bool, every: int = 1) -> tuple[Report, list[Tensor]]:
    """A hand-written loop whose optimizer steps inside the monitor or behind it."""
    optimizer, weights = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), []
    monitor = Monitor(net, every_n_steps=every, measures=["weight_change"])
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        weights.append(net.fc1.weight.detach().clone())
        optimizer.zero_grad()
        with monitor:
            net(torch.randn(5, 4, generator=generator)).square().sum().backward()
            if inside:
                optimizer.step()
        if not inside:
            optimizer.step()
    weights.append(net.fc1.weight.detach().clone())
    monitor.begin_step()  # what a step behind the monitor has changed is known when the next begins
    report = monitor.close()
    monitor.remove()
    assert report is not None
    return report, weights


@pytest.mark.parametrize("every", [1, 2, 3])
def test_change_by_a_step_behind_the_monitor_counts_from_the_first(every: int) -> None:
    report, weights = plain_steps(MLP(), inside=False, every=every)
    changes = torch.stack([weights[i + 1] - weights[i] for i in range(0, 4, every)]).double()
    torch.testing.assert_close(report["fc1"]["weight_change"], changes.square().sum(2).mean(0).sqrt())


def test_change_by_a_step_inside_the_monitor_counts_once_layers_are_known() -> None:
    report, weights = plain_steps(MLP(), inside=True)
    changes = torch.stack([after - before for before, after in pairwise(weights[1:])]).double()
    expected = changes.square().sum(2).mean(0).sqrt()  # when layers are first known, the optimizer has stepped
    torch.testing.assert_close(report["fc1"]["weight_change"], expected)


def test_weight_of_a_sparse_embedding_that_a_layer_shares() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(7, 4, sparse=True), nn.Linear(4, 7, bias=False)
            self.out.weight = self.words.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.ones(2, 4)).detach() + self.words(x).sum()

    net = Shared()
    monitor = Monitor(copy.deepcopy(net), measures=["fisher", "on_rate"])
    with monitor:
        monitor.parameters.model(torch.tensor([1, 1])).mean().backward()
    assert monitor.failure is None
    report = monitor.close()
    assert report is not None
    expected = torch.tensor([0, 16, 0, 0, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(report["out"]["fisher"], expected, rtol=1e-6, atol=0)


LARGE = ("gradient_max", "gradient_std", "gradient_uniformity", "weight_change", "taylor")


def of_a_large_layer(max_rows: Any, steps: int) -> Any:
    """``full`` measures of a layer of 100,000 weights, whose gradient is the same at every step."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(1000, 100), nn.ReLU(), nn.Linear(100, 1)), torch.randn(8, 1000)
    optimizer = torch.optim.SGD(net.parameters(), 1e-9)
    monitor = Monitor(net, every_n_steps=1, window="epoch", measures=list(LARGE), max_rows=max_rows)
    for _ in range(steps):
        optimizer.zero_grad()
        with monitor:
            net(x).square().mean().backward()
        optimizer.step()
    report = monitor.close()
    monitor.remove()
    return report["0"], net[0].weight.grad


def test_of_large_weights_a_part_is_read_at_a_time_and_all_in_time() -> None:
    (some, gradient), (whole, _) = of_a_large_layer("auto", 40), of_a_large_layer(None, 3)
    torch.testing.assert_close(float(whole["gradient_max"]), float(gradient.max()))
    torch.testing.assert_close(float(whole["gradient_std"]), float(gradient.double().std(unbiased=False)))
    for measure in ("gradient_max", "gradient_std"):  # these are of all of it at each
        torch.testing.assert_close(some[measure], whole[measure])
    uniformity = float(whole["gradient_uniformity"])
    assert uniformity == pytest.approx(float(gradient.double().abs().mean() / gradient.double().abs().std()), rel=1e-4)
    assert float(some["gradient_uniformity"]) == pytest.approx(uniformity, rel=0.02)
    one, _ = of_a_large_layer("auto", 1)
    assert float(one["gradient_uniformity"]) != uniformity
