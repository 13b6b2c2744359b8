"""Trainings on several ranks, in forked processes, and what each rank has written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_neurohealth import NeuronHealth
from tests.training import Learner, make_data, make_health, make_trainer

Batch = tuple[Tensor, ...]

BATCHES = [tuple(batch) for batch in make_data(rows=64, batch=8, dtype=torch.float64)]


def doubled(batches: list[Batch]) -> list[Batch]:
    """Each two batches as one."""
    return [
        tuple(torch.cat(pair) for pair in zip(*two, strict=True))
        for two in zip(batches[::2], batches[1::2], strict=True)
    ]


class Every(Learner):
    """Each rank trains on every n-th batch; the weights stay where they are, so that steps can be compared."""

    def __init__(self, net: nn.Module, batches: list[Batch] = BATCHES) -> None:
        torch.manual_seed(11)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.5)
        super().__init__(net.double(), lr=0.0)
        self.batches = batches

    def train_dataloader(self) -> DataLoader:
        mine = self.batches[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(mine, batch_size=None)


class Save(Callback):
    """Writes what this rank knows, and how often it has spoken to the others, to a file: a child's memory is lost."""

    def __init__(self, health: NeuronHealth, folder: Path) -> None:
        self.health, self.folder = health, folder
        self.calls = {"all_reduce": 0, "all_gather_object": 0, "others": 0}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if trainer.world_size > 1:  # in a child, which ends soon
            for name in dist.distributed_c10d.__all__:
                function = getattr(dist, name, None)
                if name.startswith(("all_", "broadcast", "gather", "reduce", "scatter", "barrier")) and callable(
                    function
                ):
                    setattr(dist, name, self.counted(name, function))

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_globals["__name__"].startswith("lightning_neurohealth"):
                self.calls[name if name in self.calls else "others"] += 1
            return function(*args, **kwargs)

        return call

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        reports = [
            {
                **report.to_dict(),
                "layers": {name: numbers(layer) for name, layer in report.items()},
                "run": numbers(report.run),
                "parameters": {name: numbers(parameter) for name, parameter in report.parameters.items()},
            }
            for report in self.health.reports
        ]
        file = self.folder / f"{trainer.global_rank}.json"
        file.write_text(json.dumps({"reports": reports, "calls": self.calls}))


def numbers(measures: Any) -> dict[str, Any]:
    return {name: value.tolist() for name, value in measures.items()}


def train(
    model: Learner,
    folder: Path,
    ranks: int = 2,
    *,
    unused: bool = False,
    static: bool = False,
    extra: Sequence[Callback] = (),
    ckpt_path: Path | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """What each rank has written; with ``unused`` some parameter may be without a gradient on some rank.

    With ``static``, DDP is told that all steps use the same ones.
    """
    names = ("window", "measures", "rules", "every_n_steps", "max_overhead")
    settings = {name: options.pop(name) for name in names if name in options}
    health = make_health(**{"measures": "full", **settings})
    folder.mkdir(exist_ok=True)
    if ranks > 1:
        options |= {
            "devices": ranks,
            "use_distributed_sampler": False,
            "strategy": DDPStrategy(
                start_method="fork",
                process_group_backend="gloo",
                find_unused_parameters=unused,
                static_graph=static,
                timeout=timedelta(seconds=20),
            ),
        }
    make_trainer(health, Save(health, folder), *extra, **options).fit(model, ckpt_path=ckpt_path)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


def all_numbers(saved: dict[str, Any], index: int = -1) -> dict[str, Tensor]:
    report = saved["reports"][index]
    tables = {"run": report["run"], **report["layers"], **report["parameters"]}
    return {
        f"{name} {measure}": torch.tensor(value, dtype=torch.float64)
        for name, table in tables.items()
        for measure, value in table.items()
    }


COUNTS = ("on_rate", "zero_rate", "activation_rows", "slope", "gradient_pass_rate", "nonfinite_rate", "nonfinite_step")

OF_BATCHES = ("activation_scale",)  # the spread within a batch

EXTREMES = ["activation_min", "activation_max"]
