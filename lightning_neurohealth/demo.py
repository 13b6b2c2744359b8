"""A demonstration on real images: the same network healthy, and with planted sickness."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth.callback import NeuronHealth
from lightning_neurohealth.findings import Severity
from lightning_neurohealth.report import Report
from lightning_neurohealth.sinks import Console, Files, Loggers, Page

PLANTED = {"fc2": "dead_neurons", "fc3": "saturation"}
"""Layer to condition of the sick network."""


class DigitNet(LightningModule):
    """Classifies 8 × 8 images of handwritten digits.

    Args:
        sick: Plant two faults: large negative biases in ``fc2``, so that three of four of its ReLU neurons never fire,
            and weights 300 times too large in ``fc3``, so that its tanh neurons sit at their ends.
    """

    def __init__(self, sick: bool = False) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, 64), nn.Linear(64, 64)
        self.fc3, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
        if sick:
            with torch.no_grad():
                self.fc2.bias[:48] = -10.0
                self.fc3.weight *= 300.0

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of images ``[batch, 64]``."""
        x = F.gelu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = torch.tanh(self.fc3(x))
        out: Tensor = self.head(x)
        return out

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        logits = self(batch[0])
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val_accuracy", (logits.argmax(1) == batch[1]).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def digits() -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """1,437 images to train on and 360 to validate, standardised, from scikit-learn."""
    from sklearn.datasets import load_digits

    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = ((images - images.mean()) / images.std()).float()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, validation = order[:1437], order[1437:]
    return (
        DataLoader(TensorDataset(images[train], labels[train]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(images[validation], labels[validation]), batch_size=360),
    )


@dataclass(frozen=True)
class Outcome:
    """What a run of the demonstration found."""

    name: str
    report: Report
    folder: Path


def train(sick: bool, folder: Path, epochs: int) -> Outcome:
    """Train one of the two networks; everything is written under ``folder``."""
    name = "sick" if sick else "healthy"
    seed_everything(0, verbose=False)
    loggers: list[Logger] = [CSVLogger(folder / name, name="csv", version="")]
    try:
        loggers.insert(0, TensorBoardLogger(folder, name=name, version=""))
    except ModuleNotFoundError:
        print("tensorboard is not installed: no TensorBoard run is written")
    health = NeuronHealth(every_n_steps=1, sinks=[Console("window"), Loggers(), Files(), Page()])
    trainer = Trainer(
        max_epochs=epochs,
        logger=loggers,
        callbacks=[health, TQDMProgressBar(refresh_rate=10, leave=True)],
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=10,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer.fit(DigitNet(sick), *digits())
    assert health.report is not None
    assert trainer.log_dir is not None
    return Outcome(name, health.report, Path(trainer.log_dir))


def run(folder: Path = Path("neurohealth_demo"), epochs: int = 5) -> int:
    """Train both networks and say what was found; each call writes to the next free ``run_N`` of ``folder``.

    Returns:
        0 if every planted fault was found in its layer and nothing serious in the healthy network, else 1.
    """
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError:
        print("The demo needs scikit-learn for its images: pip install 'lightning-neurohealth[demo]'")
        return 1
    folder = next(f for n in itertools.count(1) if not (f := folder / f"run_{n}").exists())
    outcomes = []
    for sick in (False, True):
        faults = ", ".join(f"{condition} in {layer}" for layer, condition in PLANTED.items())
        print(
            f"\n{'=' * 80}\n{f'A network with planted faults: {faults}' if sick else 'A healthy network'}\n{'=' * 80}"
        )
        outcomes.append(train(sick, folder, epochs))
    return 0 if _verdict(folder, *outcomes) else 1


def _verdict(folder: Path, healthy: Outcome, sick: Outcome) -> bool:
    print(f"\n{'=' * 80}\nWhat was found\n{'=' * 80}")
    serious = [f for f in healthy.report.findings if f.severity >= Severity.SERIOUS]
    false_alarms = ", ".join(f"{f.condition} in {f.where}" for f in serious)
    print(f"healthy network: {false_alarms or 'nothing serious, as it should be'}")
    right = not serious
    for layer, condition in PLANTED.items():
        found = next((f for f in sick.report.findings if f.layer == layer and f.condition == condition), None)
        right &= found is not None
        state = f"found, {found.severity.name}: {found.message}" if found else "MISSED"
        print(f"sick network, {condition} in {layer}: {state}")
    print("\nWhere to look")
    for outcome in (healthy, sick):
        files = outcome.folder / "neurohealth"
        if (files / "report.html").exists():
            print(f"  {files / 'report.html'}   the {outcome.name} run on one page: open it in a browser")
        print(f"  {files / 'findings.json'}   every finding; health.txt and measures.csv beside it")
        print(f"  {folder / outcome.name / 'csv' / 'metrics.csv'}   what the CSV logger got")
    print(f"  neurohealth report {sick.folder}   prints its last report again; --fail-on serious for a CI")
    print(f"  neurohealth diff {healthy.folder} {sick.folder}   which layers are worse")
    print(f"  TensorBoard: tensorboard --logdir {folder}   then open http://localhost:6006")
    return right
