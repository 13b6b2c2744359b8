"""Short trainings under watch, and plain torch that tells the truth about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import Finding, Monitor, NeuronHealth, Report, Severity
from lightning_neurohealth.rules import Rule, all_rules
from tests.training import make_trainer

pixels, labels = load_digits(return_X_y=True)
X, Y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
DIGITS = (X, Y)

RULES = [rule() for rule in all_rules().values()]
MEASURES = sorted({measure for rule in RULES for measure in rule.needs} | {"train_loss"})

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Trained:
    """A training and the truth about it: where the fault is, and the neurons that have it, as plain torch sees them."""

    reports: list[Report]
    layer: str | None = None
    neurons: frozenset[int] = frozenset()
    severity: Severity = Severity.SERIOUS

    @property
    def report(self) -> Report:
        return self.reports[-1]

    def found(self, condition: str) -> list[Finding]:
        """What the last report says of one condition."""
        return [finding for finding in self.report.findings if finding.condition == condition]

    def alarms(self, condition: str) -> list[str]:
        """Findings at SERIOUS or worse in any report, in a form that a failing test shows well."""
        return [
            f"window {report.index}: {f.severity.name} {f.where}: {f.message}"
            for report in self.reports
            for f in report.findings
            if f.condition == condition and f.severity >= Severity.SERIOUS
        ]


def network(make: Callable[[], Trained]) -> Callable[[], Trained]:
    """Train once, from the same seed whatever ran before."""

    @cache
    @wraps(make)
    def trained() -> Trained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make()

    return trained


# Training


def classify(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def regress(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x)[:, 0], y)


def train(
    net: nn.Module,
    loss: Loss = classify,
    *,
    data: Sequence[Tensor] = DIGITS,
    optimizer: torch.optim.Optimizer | None = None,
    rate: Callable[[int], float] | None = None,
    steps: int = 80,
    batch: int = 64,
    every: int = 1,
    window: int = 20,
    rules: Sequence[Rule] = tuple(RULES),
) -> list[Report]:
    """Train inside a Monitor; Adam at 1e-3 by default, times ``rate`` of the step."""
    optimizer = optimizer or torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate or (lambda step: 1.0))
    monitor = Monitor(net, every_n_steps=every, window=window, measures=MEASURES, rules=rules)
    for _ in range(steps):
        rows = torch.randint(len(data[0]), (batch,))
        optimizer.zero_grad()
        with monitor:
            value = loss(net, *(tensor[rows] for tensor in data))
            value.backward()
            monitor.record_loss(value)
        optimizer.step()
        schedule.step()
    monitor.remove()
    check_words(monitor.reports)
    return monitor.reports


def check_words(reports: Iterable[Report]) -> None:
    """Every finding says what, why and what to do; one of a layer also where: there, or at the one to blame."""
    for report in reports:
        for finding in report.findings:
            assert all((finding.message, finding.cause, finding.remedy)), finding
            named = [name for name in (finding.layer, *report.layers) if name and name in finding.remedy]
            assert finding.layer is None or named, finding


class Lit(LightningModule):
    """Trains ``net`` with the optimizer that ``choose`` makes of it."""

    def __init__(
        self, net: nn.Module, choose: Callable[[nn.Module], torch.optim.Optimizer], loss: Loss = classify
    ) -> None:
        super().__init__()
        self.net, self.choose, self.loss, self.batch_index = net, choose, loss, 0

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.net.batch_index = batch_idx
        return self.loss(self.net, *batch)

    def configure_optimizers(self) -> Any:
        return self.choose(self.net)


def fit(
    module: LightningModule,
    *,
    data: Sequence[Tensor] = DIGITS,
    batch: int = 64,
    every: int = 1,
    window: int = 20,
    epochs: int = 3,
    **options: Any,
) -> list[Report]:
    """Train with Lightning's Trainer and the callback."""
    health = NeuronHealth(every_n_steps=every, window=window, measures=MEASURES, rules=RULES, sinks=[])
    make_trainer(health, max_epochs=epochs, **options).fit(
        module, DataLoader(TensorDataset(*data), batch, shuffle=True)
    )
    return health.reports


def adam(net: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr)


def sgd(net: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr)


# Truth, by plain torch


@torch.no_grad()
def written_by(net: nn.Module, module: nn.Module, x: Tensor = X, axis: int = -1) -> Tensor:
    """All that ``module`` writes while ``net`` reads ``x``, as ``[rows, neurons]``."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, inputs, out: outputs.append(out.detach().clone()))
    net(x)
    handle.remove()
    return torch.cat([out.movedim(axis, -1).flatten(0, -2) for out in outputs])


def never_positive(z: Tensor) -> frozenset[int]:
    """Neurons whose pre-activation is not above 0 on any row."""
    return indices(z.amax(0) <= 0)


def indices(mask: Tensor) -> frozenset[int]:
    return frozenset(mask.nonzero().flatten().tolist())


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor = X) -> float:
    net.eval()
    return (net(x).argmax(-1) == Y).float().mean().item()


def gradient_sizes(net: nn.Module, weights: Iterable[nn.Parameter], x: Tensor = X) -> list[float]:
    """Root mean square of an element of each weight's gradient, over all of the data."""
    gradients = torch.autograd.grad(classify(net, x, Y), list(weights))
    return [gradient.double().square().mean().sqrt().item() for gradient in gradients]
