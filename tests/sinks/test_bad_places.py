"""Where files cannot be written the training goes on, and what was found is said all the same."""

from __future__ import annotations

import errno
import os
import re
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from lightning_neurohealth import NeuronHealth, Report

EPOCHS = 3


class Net(LightningModule):
    """Five of its eight hidden neurons are dead."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        with torch.no_grad():
            self.body[0].bias[:5] = -50

    def training_step(self, batch, index):
        return (self.body(batch) - 1).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class At(Callback):
    """Does something when an epoch begins."""

    def __init__(self, epoch, act):
        self.epoch, self.act = epoch, act

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            self.act()


def fit(folder: Path, *callbacks):
    """The callback after a whole training, and what it has warned of."""
    health = NeuronHealth(every_n_steps=1)
    trainer = Trainer(
        max_epochs=EPOCHS,
        logger=CSVLogger(folder, name="", version=""),
        callbacks=[health, *callbacks],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(Net(), torch.utils.data.DataLoader(torch.randn(512, 4), batch_size=64))
    assert trainer.current_epoch == EPOCHS
    assert len(health.reports) == EPOCHS
    return health, [str(w.message) for w in caught if "NeuronHealth" in str(w.message)]


def is_said(health, output):
    (finding,) = [f for f in health.report.findings if f.condition == "dead_neurons"]
    assert f"{finding.severity.name} dead_neurons in body.0" in output
    assert "5 of 8 neurons of body.0" in " ".join(output.split())


def test_a_file_in_the_way_of_the_folder(tmp_path, capsys):
    (tmp_path / "neurohealth").write_text("not a folder")
    health, said = fit(tmp_path)
    assert [re.search(r"NeuronHealth: (\w+) failed and is left out", text)[1] for text in said] == ["Files", "Page"]
    assert (tmp_path / "neurohealth").read_text() == "not a folder"
    is_said(health, capsys.readouterr().out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(tmp_path, capsys):
    (tmp_path / "neurohealth").mkdir(mode=0o500)
    health, said = fit(tmp_path)
    assert "Files failed and is left out" in said[0]
    is_said(health, capsys.readouterr().out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_disk_that_fills_up_while_training(tmp_path, capsys):
    def fill():
        file = tmp_path / "neurohealth" / "measures.csv"
        file.unlink()
        file.symlink_to("/dev/full")

    health, said = fit(tmp_path, At(1, fill))
    (text,) = said
    assert "NeuronHealth: Files failed and is left out from now on; training goes on: " in text
    assert os.strerror(errno.ENOSPC) in text
    is_said(health, capsys.readouterr().out)
    assert "neurohealth/score" in (tmp_path / "metrics.csv").read_text()
    assert (tmp_path / "neurohealth" / "report.html").exists()


def test_no_room_for_what_is_written_at_the_end(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    health, said = fit(tmp_path, At(2, lambda: monkeypatch.setattr(os, "replace", full)))
    assert [re.search(r"NeuronHealth: (\w+) failed", text)[1] for text in said] == ["Files", "Page"]
    is_said(health, capsys.readouterr().out)
    left = {path.name for path in (tmp_path / "neurohealth").iterdir()}
    assert left == {"findings.json", "health.txt", "measures.csv", "report.json"}
    assert Report.load(tmp_path).index < EPOCHS - 1  # whole, and of a window before
