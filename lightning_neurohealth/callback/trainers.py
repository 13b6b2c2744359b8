"""What a monitor must know of a Trainer."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor
from tqdm.auto import tqdm

from lightning_neurohealth.hosts import is_tqdm
from lightning_neurohealth.sinks import Place

VALIDATION_LOSS = re.compile(
    r"(?:val|valid|validation)[_/.-]?(?:epoch[_/.-]?)?loss(?:_epoch)?(?:/dataloader_idx_0)?", re.IGNORECASE
)
"""Names under which people log the loss of their validation."""


def loss_scale(trainer: Trainer) -> Tensor | float:
    """By what the loss is multiplied before backward."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not scaler.is_enabled():
        return 1.0
    scale = getattr(scaler, "_scale", None)  # a tensor: get_scale() would wait for the device
    return scale if isinstance(scale, Tensor) else float(scaler.get_scale())


def gradient_scale(trainer: Trainer) -> Tensor | float:
    """What turns a gradient as it flows on this rank into the gradient of the loss of the whole optimizer step.

    Data-parallel ranks average their gradients, so the loss of the step is the mean of theirs.
    """
    replicas = getattr(trainer.strategy, "distributed_sampler_kwargs", None) or {}
    return 1.0 / (loss_scale(trainer) * int(replicas.get("num_replicas", 1)))


def may_overflow(trainer: Trainer) -> bool:
    """True if a GradScaler skips steps that overflow; it looks at the gradients and waits for the device itself."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler is not None and bool(scaler.is_enabled())


def learning_rate(trainer: Trainer) -> float:
    """The largest of all, NaN where there is none."""
    rates = [
        float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups if "lr" in group
    ]
    return max(rates, default=math.nan)


def validation_loss(trainer: Trainer) -> Tensor | None:
    """What was logged under such a name."""
    losses = (value for name, value in trainer.callback_metrics.items() if VALIDATION_LOSS.fullmatch(name))
    return next(losses, None)


def epoch_steps(trainer: Trainer) -> int | None:
    """Optimizer steps of an epoch, ``None`` where its length is not known."""
    length = trainer.num_training_batches
    if not math.isfinite(length) or not length:
        return None
    return max(1, math.ceil(length / trainer.accumulate_grad_batches))


def batches_that_stepped(trainer: Trainer) -> int:
    """Lightning's own count of steps, at which it logs."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def is_last_epoch(trainer: Trainer) -> bool:
    """True if no other follows."""
    epochs = trainer.max_epochs
    stops = trainer.should_stop and trainer.fit_loop._can_stop_early  # which min_epochs and min_steps may forbid
    return stops or (epochs is not None and epochs != -1 and trainer.current_epoch + 1 >= epochs)


def steps_are_over(trainer: Trainer) -> bool:
    """True if ``max_steps`` are done."""
    return trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps


def place_of(trainer: Trainer, folder: str | None, log: str) -> Place:
    """Where sinks write; ``folder`` is the Trainer's log directory, for which all ranks must have asked."""
    for_real = not (trainer.fast_dev_run or trainer.barebones)  # type: ignore[attr-defined]
    ours = Path(folder) / "neurohealth" if folder and "://" not in folder and for_real else None
    return Place(ours, tuple(trainer.loggers), echo(trainer), log)


def echo(trainer: Trainer) -> Callable[[Any], None]:
    """Prints without breaking the progress bar."""
    bar = trainer.progress_bar_callback

    def echo(text: Any) -> None:
        if is_tqdm(bar):
            tqdm.write(str(text))  # its own print says nothing while no bar is open
        elif bar is not None and getattr(bar, "is_enabled", True):
            bar.print(text)
        else:
            print(text, file=sys.stdout, flush=True)

    return echo
