"""Manual optimization with two optimizers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_neurohealth import NeuronHealth
from tests.callback.numbers import rows
from tests.training import MLP, fit, make_trainer


class Adversarial(LightningModule):
    """A generator and a critic, each with its optimizer, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = MLP(), nn.Sequential(nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 1))
        self.norms: dict[str, list[float]] = {}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        noise, real = batch
        ours, theirs = self.optimizers()
        loss = self.critic(self.generator(noise).detach()).mean() - self.critic(real).mean()
        self.descend(theirs, loss)
        self.descend(ours, -self.critic(self.generator(noise)).mean())

    def descend(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in self.named_parameters():
            if id(parameter) in mine:
                self.norms.setdefault(name, []).append(parameter.grad.norm().item())

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(net.parameters(), 0.01) for net in (self.generator, self.critic)]


def test_manual_optimization_with_two_optimizers() -> None:
    model = Adversarial()
    report = fit(model).report
    assert (report.steps, report.measured, report.step) == (4, 4, 8)
    assert list(report) == ["generator.fc1", "generator.fc2", "critic.0", "critic.2"]
    assert rows(report, "critic.0") == 3 * 32
    assert rows(report, "generator.fc1") == 2 * 32
    assert len(model.norms) == 8
    for name, norms in model.norms.items():
        expected = math.sqrt(sum(norm**2 for norm in norms) / len(norms))
        assert float(report.parameters[name]["gradient_norm"]) == pytest.approx(expected, rel=1e-6), name
    for name in report:
        assert (report[name]["gradient_flow"] > 0).any(), name
    assert "no_gradient" not in {f.condition for f in report.findings}


class TwoOptimizers(LightningModule):
    """Trains by hand with two optimizers: on one loss, on a loss each, or in turns."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.way, self.a, self.b = way, nn.Linear(4, 4), nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        turn = {"together": [[0, 1]], "each its own": [[0], [1]], "in turns": [[batch_idx % 2]]}[self.way]
        for own in turn:
            self.manual_backward(self.b(torch.relu(self.a(torch.ones(2, 4)))).sum())
            for i in own:
                optimizers[i].step()
            self.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 1e-3) for part in (self.a, self.b)]


@pytest.mark.parametrize(("way", "adversarial"), [("together", False), ("each its own", True), ("in turns", True)])
def test_two_optimizers_are_adversaries_where_each_has_a_loss(way: str, adversarial: bool) -> None:
    seen: list[bool] = []

    class Watch(NeuronHealth):
        def on_train_batch_end(self, *args: Any) -> None:
            super().on_train_batch_end(*args)
            seen.append(self._monitor.progress.adversarial)

    make_trainer(Watch(every_n_steps=1, sinks=[]), max_epochs=1).fit(
        TwoOptimizers(way), DataLoader(torch.zeros(6, 1), 2)
    )
    assert seen[-1] is adversarial
