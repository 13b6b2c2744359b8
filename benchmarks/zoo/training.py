"""Trains under the callback's eyes, and measures the truth in plain torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import NeuronHealth, Report, Severity

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Choose = Callable[[nn.Module], torch.optim.Optimizer]
Data = Sequence[Tensor]


@dataclass(frozen=True)
class Seen:
    """What was reported, and the layers that the fault is in; none for a fault of the whole run."""

    reports: list[Report]
    layers: frozenset[str] = frozenset()
    first: int = 0
    """Window from which on the fault was there."""


@dataclass(frozen=True)
class Specimen:
    """One training of the zoo.

    Attributes:
        condition: What it suffers from, ``None`` for a healthy one.
        severity: At least what must be said of it.
        quick: True if it belongs to the subset that the tests run.
    """

    name: str
    run: Callable[[], Seen]
    condition: str | None = None
    severity: Severity = Severity.HEALTHY
    quick: bool = False


SPECIMENS: list[Specimen] = []


def sick(condition: str, severity: Severity = Severity.SERIOUS, quick: bool = False) -> Callable[[Any], Any]:
    """Put a training with a fault into the zoo."""

    def add(run: Callable[[], Seen]) -> Callable[[], Seen]:
        SPECIMENS.append(Specimen(run.__name__, run, condition, severity, quick))
        return run

    return add


def healthy(run: Callable[[], Seen] | None = None, *, quick: bool = False) -> Any:
    """Put a healthy training into the zoo."""

    def add(run: Callable[[], Seen]) -> Callable[[], Seen]:
        SPECIMENS.append(Specimen(run.__name__, run, quick=quick))
        return run

    return add if run is None else add(run)


class WrongSpecimenError(Exception):
    """A specimen is not what it says it is: its fault is not there, or it has not learned."""


def check(truth: Any, what: str) -> None:
    """The zoo's own measurement, in plain torch."""
    if not bool(truth):
        raise WrongSpecimenError(what)


# Training


def classify(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def regress(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x)[:, 0], y)


def rebuild(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x), x)


def adam(lr: float = 2e-3, **options: Any) -> Choose:
    return lambda net: torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr, **options)


def sgd(lr: float, **options: Any) -> Choose:
    return lambda net: torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr, **options)


class Lit(LightningModule):
    """Trains ``net``; ``rate`` multiplies the learning rate at each step."""

    def __init__(self, net: nn.Module, loss: Loss, choose: Choose, rate: Callable[[int], float] | None) -> None:
        super().__init__()
        self.net, self.loss, self.choose, self.rate = net, loss, choose, rate

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(self.net, *batch)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss(self.net, *batch))

    def configure_optimizers(self) -> Any:
        optimizer = self.choose(self.net)
        if self.rate is None:
            return optimizer
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    net: nn.Module,
    data: Data,
    loss: Loss = classify,
    *,
    optimizer: Choose | None = None,
    rate: Callable[[int], float] | None = None,
    epochs: int = 8,
    batch: int = 64,
    every: int = 2,
    validation: Data | None = None,
    **options: Any,
) -> list[Report]:
    """The reports of a training, one an epoch of 32 steps unless the data or the batch have another size."""
    lit = net if isinstance(net, LightningModule) else Lit(net, loss, optimizer or adam(), rate)
    health = NeuronHealth(every_n_steps=every, sinks=[])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[health],
            **options,
        )
        valid = None if validation is None else DataLoader(TensorDataset(*validation), 256)
        trainer.fit(lit, DataLoader(TensorDataset(*data), batch, shuffle=True), valid)
    return health.reports


# Truth


@torch.no_grad()
def written_by(net: nn.Module, module: nn.Module, x: Tensor, axis: int = -1) -> Tensor:
    """All that ``module`` writes while ``net`` reads ``x``, as ``[rows, neurons]``."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, inputs, out: outputs.append(out.detach().clone()))
    net(x)
    handle.remove()
    return torch.cat([out.movedim(axis, -1).flatten(0, -2) for out in outputs])


def spread(net: nn.Module, module: nn.Module, x: Tensor, axis: int = -1) -> float:
    """Standard deviation over the data of what ``module`` writes, median over neurons."""
    return written_by(net, module, x, axis).std(0).median().item()


def gradient(net: nn.Module, weight: nn.Parameter, loss: Loss, data: Data) -> float:
    """Root mean square of an element of the gradient over all of the data."""
    (found,) = torch.autograd.grad(loss(net, *data), [weight])
    return found.double().square().mean().sqrt().item()


@torch.no_grad()
def accuracy(net: nn.Module, data: Data) -> float:
    mode, _ = net.training, net.eval()
    right = (net(data[0]).argmax(-1) == data[1]).float().mean().item()
    net.train(mode)
    return right


@torch.no_grad()
def shift(module: Any, neurons: int, bias: float) -> None:
    """The first neurons get another bias."""
    module.bias[:neurons] = bias


@torch.no_grad()
def scale(*modules: Any, weight: float = 1.0, std: float | None = None) -> None:
    """Weights times a factor, or drawn anew with a standard deviation; then without biases."""
    for module in modules:
        if std is not None:
            module.weight.normal_(std=std)
            module.bias.zero_()
        module.weight *= weight


def owners(net: nn.Module) -> list[Any]:
    """Linears and convolutions in the order of definition."""
    return [m for m in net.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]


def of(*layers: str) -> frozenset[str]:
    """Names of layers, as the callback sees them inside the module that trains them."""
    return frozenset(f"net.{name}" for name in layers)
