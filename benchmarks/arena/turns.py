"""Trainings in one process that take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from greenlet import greenlet
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.arena.models import Contender, Task

ENDLESS = 1 << 40


class Same(Dataset[Any]):
    """One batch, again and again."""

    def __init__(self, batch: tuple[Tensor, Tensor], length: int) -> None:
        self.batch, self.length = batch, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.batch


class TakeTurns(Callback):
    """Stands last among the callbacks: a turn is ``steps`` whole steps, from the end of one to the end of another.

    All trainings run in one thread, for each thread would have processors' threads of its own.
    """

    def __init__(self, steps: int, referee: greenlet) -> None:
        self.steps, self.referee = steps, referee
        self.begun = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pass_on()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.steps == 0:
            self._pass_on((perf_counter() - self.begun) / self.steps)

    def _pass_on(self, seconds: float | None = None) -> None:
        self.referee.switch(seconds)
        self.begun = perf_counter()


@dataclass(frozen=True)
class Player:
    """What a training has beside the bare one.

    Attributes:
        extra: Gives arguments of the Trainer, ``callbacks`` among them.
        wrap: Called with the network before the training.
        steps: Steps a turn, where a turn of the contender's length would not show it.
    """

    extra: Callable[[], dict[str, Any]] = dict
    wrap: Callable[[nn.Module], object] | None = None
    steps: int = 1


def race(
    contender: Contender,
    players: dict[str, Player],
    rounds: int,
    warm_up: int = 3,
    after: Callable[[], object] | None = None,
) -> dict[str, list[float]]:
    """Seconds a step of each round, for each player; in each round every player has one turn, in the same order.

    ``after`` is called after each turn.
    """
    referee = greenlet.getcurrent()
    running = {name: greenlet(partial(_train, contender, player, referee)) for name, player in players.items()}
    for training in running.values():
        training.switch()
    seconds: dict[str, list[float]] = {name: [] for name in players}
    for round_ in range(warm_up + rounds):
        for name, training in running.items():
            taken = training.switch()
            if after is not None:
                after()
            if round_ >= warm_up:
                seconds[name].append(taken)
    for training in running.values():
        training.throw()  # ends it where it waits
    return seconds


def _train(contender: Contender, player: Player, referee: greenlet) -> None:
    torch.manual_seed(0)
    module, extra = Task(contender.net()), player.extra()
    if player.wrap is not None:
        player.wrap(module)
    steps = max(contender.steps, player.steps)
    callbacks = [*extra.pop("callbacks", ()), TakeTurns(steps, referee)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=callbacks,
            logger=extra.pop("logger", False),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            **extra,
        ).fit(module, DataLoader(Same(contender.batch(), ENDLESS), batch_size=None))
