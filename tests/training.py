"""Tiny networks, data, and a Trainer that says nothing, for the tests that train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import Monitor, NeuronHealth, Report
from lightning_neurohealth.delivery import Delivery
from lightning_neurohealth.intake import Intake
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.signals import Signal

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class MLP(nn.Module):
    """fc1, a ReLU module, fc2: [rows, 4] to [rows, 1]."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, hidden)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Functional(MLP):
    """With a plain function too, so that steps are traced."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.act(self.fc1(x))))


class Learner(LightningModule):
    """Trains ``net`` by least squares with SGD; ``at_step`` is called in each training step with its index."""

    def __init__(
        self, net: nn.Module, lr: float = 0.05, at_step: Callable[[Learner, int], object] | None = None
    ) -> None:
        super().__init__()
        self.net, self.lr, self.at_step = net, lr, at_step
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if self.at_step is not None:
            self.at_step(self, batch_idx)
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr)


class Validated(Learner):
    """One that can be validated, tested and used for predictions."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self(batch[0])

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self(batch[0])

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0])


def make_data(
    rows: int = 32, batch: int = 8, shape: tuple[int, ...] = (4,), dtype: torch.dtype = torch.float32
) -> DataLoader:
    """The same Gaussian rows at every call, in the same order."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(rows, *shape, generator=generator, dtype=dtype)
    y = torch.randn(rows, 1, generator=generator, dtype=dtype)
    return DataLoader(TensorDataset(x, y), batch)


def make_trainer(*callbacks: Any, **options: Any) -> Trainer:
    """One epoch on the CPU, without a word or a file."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(callbacks=list(callbacks), **{**quiet, **options})


def make_health(**settings: Any) -> NeuronHealth:
    """Measures every step and writes nowhere."""
    return NeuronHealth(**{"every_n_steps": 1, "sinks": [], **settings})


def fit(net: nn.Module | LightningModule, data: Any = None, *, health: Any = None, **options: Any) -> NeuronHealth:
    """The callback after a fit; keywords that it knows go to it, all others to the Trainer."""
    names = ("every_n_steps", "window", "include", "exclude", "measures", "rules", "log", "sinks", "on_critical")
    settings = {name: options.pop(name) for name in names if name in options}
    health = make_health(**settings) if health is None else health
    model = net if isinstance(net, LightningModule) else Learner(net)
    make_trainer(health, **options).fit(model, make_data() if data is None else data)
    return health


def watch_step(
    net: nn.Module, *inputs: Any, steps: int = 1, backward: bool = True, **settings: Any
) -> tuple[Monitor, Report]:
    """Measure ``net(*inputs)`` and the gradients of the mean of its squares, without a Trainer or an optimizer."""
    monitor = Monitor(net, **{"every_n_steps": 1, "window": "epoch", **settings})
    try:
        for _ in range(steps):
            with monitor:
                out = net(*inputs)
                if backward:
                    out.square().mean().backward()
        report = monitor.close()
    finally:
        monitor.remove()
    assert report is not None
    return monitor, report


def layers_of(net: nn.Module, *inputs: Any, **settings: Any) -> dict[str, Layer]:
    """The layers that are found in one step, by name, in the order of execution."""
    monitor, report = watch_step(net, *inputs, **settings)
    found = {layer.name: layer for layer in monitor.finder.ordered()}
    assert list(report) == list(found)
    return found


def traces(model: nn.Module) -> dict[str, Any]:
    """All that a watcher could leave behind on a model or in torch."""
    found: dict[str, Any] = {"modes": list(_get_current_function_mode_stack()), "stance": stance()}
    for name, module in model.named_modules():
        found[f"{name}: hooks"] = {kind: list(getattr(module, kind)) for kind in HOOKS if getattr(module, kind)}
        if not isinstance(module, LightningModule):  # Lightning itself puts attributes there
            found[f"{name}: attributes"] = sorted(vars(module))
            found[f"{name}: kind of backward hooks"] = module._is_full_backward_hook
    return found


def stance() -> str:
    """What ``torch.compile`` is told to do."""
    from torch._dynamo import eval_frame

    return eval_frame._stance.stance


class Endless(torch.utils.data.IterableDataset):
    """Rows of a fixed list, of which nobody knows the number."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = list(batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def at_each_signal(patch: pytest.MonkeyPatch, call: Callable[[int, Signal], object]) -> None:
    """Let ``call`` know the step and the kind of every signal of layers and parameters that is taken."""
    send, take = Delivery._send, Intake.take

    def sent(self: Delivery, layer: Layer, signal: Signal, x: Tensor) -> None:
        call(self.receiver.ledger.step, signal)  # type: ignore[attr-defined]
        send(self, layer, signal, x)

    def taken(self: Intake, subject: Any, signal: Signal, x: Tensor, part: Any = None) -> None:
        call(self.ledger.step, signal)
        take(self, subject, signal, x, part)

    patch.setattr(Delivery, "_send", sent)
    patch.setattr(Intake, "take", taken)
