"""Two ranks, in processes of their own as torchrun starts them, of which something ends one or both."""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.sinks import Files
from tests.training import make_data, make_trainer, traces

LIMIT = 30.0
"""Seconds that two ranks may take; a collective waits longer, so that whoever waits for nobody is caught."""


@dataclass
class Outcome:
    """How the ranks have ended.

    Attributes:
        ranks: What each that could has told: its ``error``, if the model was left ``clean``, its ``reports``, the
            ``warnings`` of ours, and the collectives in which we have ``spoken`` after the error.
        codes: Exit code of each, ``None`` for one that had to be killed.
        files: The last window in the files, ``None`` where there are none.
    """

    ranks: dict[int, dict[str, Any]] = field(default_factory=dict)
    codes: list[int | None] = field(default_factory=list)
    files: dict[str, Any] | None = None


def train_broken(
    model: Callable[[], LightningModule],
    folder: Path,
    *,
    before: Sequence[Callback] = (),
    patience: float = 2 * LIMIT,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> Outcome:
    """Fit ``model()`` on two ranks and wait for both.

    Args:
        model: Builds it, on each rank.
        folder: Where files go.
        before: Callbacks that come before ours.
        patience: Seconds that a collective waits.
        settings: Of NeuronHealth.
        options: Of the Trainer.
    """
    port = free_port()

    def run(rank: int) -> None:
        os.environ |= as_torchrun(rank, port)
        health = NeuronHealth(**{"every_n_steps": 1, "sinks": [Files()], **(settings or {})})
        strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=patience))
        trainer = make_trainer(*before, health, devices=2, strategy=strategy, logger=CSVLogger(folder), **options)
        (folder / f"{rank}.json").write_text(json.dumps(fit_and_tell(trainer, model(), health)))

    context = mp.start_processes(run, nprocs=2, join=False, start_method="fork")
    end = time.monotonic() + LIMIT
    for process in context.processes:
        process.join(max(0.0, end - time.monotonic()))
    outcome = Outcome(codes=[process.exitcode for process in context.processes])
    for process in context.processes:
        process.kill()
        process.join()
    told = {rank: folder / f"{rank}.json" for rank in (0, 1)}
    outcome.ranks = {rank: json.loads(file.read_text()) for rank, file in told.items() if file.exists()}
    outcome.files = last_in_files(folder)
    return outcome


def fit_and_tell(trainer: Trainer, model: LightningModule, health: NeuronHealth) -> dict[str, Any]:
    """What one rank knows at its end."""
    spoken = listen(trainer)
    before, error = traces(model), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            trainer.fit(model, make_data(rows=64, batch=4))
        except BaseException as raised:
            error = "".join(traceback.format_exception_only(raised)).strip()
    return {
        "error": error,
        "clean": traces(model) == before,
        "reports": [report.to_dict() for report in health.reports],
        "warnings": [str(w.message) for w in caught if "NeuronHealth" in str(w.message)],
        "spoken": spoken,
        "step": trainer.global_step,
    }


def listen(trainer: Trainer) -> list[str]:
    """Collectives that we cause after an error, from now on; in a child, which ends soon."""
    spoken: list[str] = []

    def heard(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if trainer.interrupted and any("/lightning_neurohealth/" in f.filename for f in traceback.extract_stack()):
                spoken.append(name)
            return function(*args, **kwargs)

        return call

    for name in dist.distributed_c10d.__all__:
        if name.startswith(("all_", "broadcast", "gather", "reduce", "scatter", "barrier")):
            setattr(dist, name, heard(name, getattr(dist, name)))
    return spoken


def last_in_files(folder: Path) -> dict[str, Any] | None:
    """The last window that was written somewhere below."""
    found = list(folder.rglob("findings.json"))
    last: dict[str, Any] | None = json.loads(found[0].read_text())[-1] if found else None
    return last


def as_torchrun(rank: int, port: int) -> dict[str, str]:
    """The environment of one of its processes."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "tests"}
    return {name: str(value) for name, value in {**ranks, **place}.items()}


def free_port() -> int:
    """One on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port
