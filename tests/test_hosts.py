"""Trainers of the package ``pytorch_lightning``, which has the same classes under other names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
import pytorch_lightning as pl
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import CSVLogger
import lightning_neurohealth


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.fc1, self.act, self.fc2 = torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)

    def training_step(self, batch, batch_idx):
        return self.fc2(self.act(self.fc1(batch))).square().mean()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(16, 4), 4)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


health = lightning_neurohealth.NeuronHealth(every_n_steps=1)
trainer = pl.Trainer(callbacks=[health], max_epochs=1, accelerator="cpu", logger=CSVLogger(sys.argv[1]))
trainer.fit(Model())
assert health.report is not None and list(health.report) == ["fc1", "fc2"]

LightningCLI(Model, args=[
    "fit", "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.logger=false",
    "--trainer.enable_checkpointing=false", "--trainer.callbacks=lightning_neurohealth.NeuronHealth",
    "--trainer.callbacks.every_n_steps=2",
], save_config_callback=None)
"""


def test_the_other_package_takes_us_in_its_trainer_and_its_cli(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    run = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=240, check=False, cwd=Path.cwd())
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Neuron health epoch 0") == 2
    assert "step 4, 2 of 4 steps measured" in ended.stdout
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert "neurohealth/score" in metrics.read_text().splitlines()[0]
    assert list(tmp_path.rglob("findings.json"))
