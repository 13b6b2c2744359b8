"""Dormancy and accuracy over a sequence of relabelled tasks, with and without recycling: does the network still learn?

Each task gives the same digits new random labels, which can only be learnt by heart; optimizer and weights go on from
task to task. Prints, for each task, the share of hidden neurons with a dormancy of at most 0.1 and the accuracy on the
task's own training data at its end.

    python -m benchmarks.plasticity --tasks 12 --seeds 3
"""

from __future__ import annotations

import argparse
import itertools
from statistics import mean

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import NeuronHealth, Report
from lightning_neurohealth.interventions import RecycleDormant

DORMANT = 0.1


class Student(LightningModule):
    """Three hidden layers of ReLU; counts right answers of the running epoch."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        sizes = (64, width, width, width)
        hidden = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*hidden, nn.Linear(width, 10))
        self.rate = rate
        self.right: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        out = self.net(x)
        self.right.append(float((out.argmax(1) == y).float().mean()))
        return F.cross_entropy(out, y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.rate)


class Relabelled(torch.utils.data.Dataset):
    """The same images, with new labels for every task of ``epochs`` epochs."""

    def __init__(self, rows: int, seed: int) -> None:
        images = torch.as_tensor(load_digits().data[:rows], dtype=torch.float32)
        self.images, self.seed, self.task = (images - images.mean()) / images.std(), seed, 0

    def relabel(self, task: int) -> TensorDataset:
        draw = torch.Generator().manual_seed(1000 * self.seed + task)
        return TensorDataset(self.images, torch.randint(0, 10, (len(self.images),), generator=draw))


def dormant_share(report: Report) -> float:
    """Share of the hidden neurons with a dormancy of at most 0.1."""
    hidden = [layer["dormancy"] for layer in report.values() if not layer.output]
    return float((torch.cat(hidden) <= DORMANT).double().mean())


def run(recycle: bool, seed: int, tasks: int, epochs: int, rows: int, width: int, rate: float) -> list[tuple]:
    """Dormant share and accuracy at the end of each task."""
    seed_everything(seed, verbose=False)
    student, data, found = Student(width, rate), Relabelled(rows, seed), []
    optimizer = student.configure_optimizers()
    student.configure_optimizers = lambda: optimizer  # type: ignore[method-assign]
    for task in range(tasks):
        health = NeuronHealth(every_n_steps=4, sinks=[], rules=[], measures=["dormancy"])
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[health, *([RecycleDormant(tau=DORMANT, seed=seed)] if recycle else [])],
        )
        loader = DataLoader(data.relabel(task), 64, shuffle=True)
        student.right.clear()
        trainer.fit(student, loader)
        assert health.report is not None
        found.append((dormant_share(health.report), mean(student.right[-len(loader) :])))
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("tasks", 16), ("epochs", 20), ("rows", 640), ("width", 64), ("seeds", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, default=5e-3)
    options = vars(parser.parse_args(arguments))
    torch.set_num_threads(1)
    seeds = range(options.pop("seeds"))
    runs = {kind: [run(kind, seed=seed, **options) for seed in seeds] for kind in (False, True)}
    table = Table(title=f"relabelled tasks, mean over {len(seeds)} seeds")
    for column in ("task", "dormant", "dormant, recycled", "accuracy", "accuracy, recycled"):
        table.add_column(column, justify="right")
    for task in range(options["tasks"]):
        cells = [mean(one[task][i] for one in runs[kind]) for i in (0, 1) for kind in (False, True)]
        table.add_row(str(task + 1), *(f"{cell:.1%}" for cell in cells))
    Console().print(table)


if __name__ == "__main__":
    import logging

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
