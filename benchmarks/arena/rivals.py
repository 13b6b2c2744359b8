"""Who is timed: a bare training, ours in several settings, and what people use today."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import grad_norm
from torch import Tensor, nn

from benchmarks.arena.turns import Player
from lightning_neurohealth import NeuronHealth

CADENCE = 10
ENDLESS = 1 << 40


class Naive(Callback):
    """What one writes in an afternoon: five statistics of every leaf's output, and the norm of every gradient."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen: dict[str, tuple[float, ...]] = {}
        for name, module in pl_module.named_modules():
            if not any(True for _ in module.children()):
                module.register_forward_hook(self._hook(name))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                self.seen[name] = (parameter.grad.norm().item(),)

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, out: Any) -> None:
            if isinstance(out, Tensor):
                a = out.detach()
                numbers = (a.mean(), a.std(), a.min(), a.max(), (a == 0).float().mean())
                self.seen[name] = tuple(number.item() for number in numbers)

        return hook


class GradNorm(Callback):
    """Lightning's own utility, at every step."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.norms = grad_norm(pl_module, norm_type=2)


def ours(every: int, measures: str = "standard") -> Player:
    """NeuronHealth, without sinks: what they cost once a window is timed by itself."""
    made = lambda: {"callbacks": [NeuronHealth(every, window=ENDLESS, measures=measures, sinks=[])]}  # noqa: E731
    return Player(made, steps=CADENCE if every == CADENCE else 1)


def watched_by_wandb(log_freq: int) -> Player:
    """``wandb.watch(log="all")``, offline."""

    def wrap(net: nn.Module) -> None:
        import wandb

        wandb.init(mode="offline", dir=tempfile.mkdtemp(), settings=wandb.Settings(silent=True))
        wandb.watch(net, log="all", log_freq=log_freq)

    return Player(wrap=wrap, steps=log_freq)


def players() -> dict[str, Player]:
    """All of them, in the order of their turns."""
    rivals = {
        "bare": Player(),
        "bare again": Player(),
        "idle": ours(ENDLESS),
        "economy, every step": ours(1, "economy"),
        "standard, every step": ours(1),
        "full, every step": ours(1, "full"),
        "economy, 1 in 10": ours(CADENCE, "economy"),
        "standard, 1 in 10": ours(CADENCE),
        "full, 1 in 10": ours(CADENCE, "full"),
        "grad_norm, every step": Player(lambda: {"callbacks": [GradNorm()]}),
        "naive monitor, every step": Player(lambda: {"callbacks": [Naive()]}),
    }
    if importlib.util.find_spec("wandb"):
        rivals["wandb.watch, every step"] = watched_by_wandb(1)
        rivals["wandb.watch, 1 in 100"] = watched_by_wandb(100)
    return rivals
