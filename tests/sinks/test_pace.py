"""What is written while a run goes on, how often, and what a run that is killed leaves."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_neurohealth import Report
from lightning_neurohealth.__main__ import main
from lightning_neurohealth.sinks import Files, Page, Place, files, pace, page
from tests.reporting.by_hand import make_finding, make_report

KILLED = """
import os, signal, sys
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
import torch
from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.sinks import page
page.REST = 0.0

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        self.body[0].bias.data[:5] = -50
    def training_step(self, batch, index):
        return (self.body(batch) - 1).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

class Kill(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)

logger = CSVLogger(sys.argv[1], name="", version="")
Trainer(max_epochs=9, logger=logger, callbacks=[NeuronHealth(every_n_steps=1), Kill()], accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
        default_root_dir=sys.argv[1]).fit(Net(), torch.utils.data.DataLoader(torch.randn(2048, 4), batch_size=64))
"""


class Clock:
    """Stands still unless it is moved."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def windows(number):
    report, chain = None, []
    for index in range(number):
        report = make_report(["fc1", "head"], index=index, previous=report)
        chain.append(report)
    return chain


def opened(sink, folder):
    sink.open(Place(folder=folder))
    return sink


def test_a_turn_is_followed_by_a_rest(clock):
    turns = pace.Pace(rest=60.0)
    assert turns.due
    with turns.turn():
        clock.now += 0.25
    clock.now += 59
    assert not turns.due
    clock.now += 1
    assert turns.due


def test_a_long_turn_is_followed_by_a_rest_a_hundred_times_as_long(clock):
    turns = pace.Pace(rest=60.0)
    with turns.turn():
        clock.now += 30
    clock.now += 2999
    assert not turns.due
    clock.now += 1
    assert turns.due


def test_reports_are_brought_up_to_date_once_a_minute(tmp_path, clock):
    sink = opened(Files(), tmp_path)
    seen = []
    for report in windows(5):
        sink.write(report, 0)
        seen.append(Report.load(tmp_path).index)
        clock.now += files.REST / 2
    assert seen == [0, 0, 2, 2, 4]


def test_no_more_than_a_minute_of_findings_is_lost(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(files, "EACH", 0)  # none is written for being one of so many
    sink = opened(Files(), tmp_path)
    for report in windows(4):
        sink.write(report, 0)
        clock.now += files.REST / 2
    assert [window["index"] for window in json.loads((tmp_path / "findings.json").read_text())] == [0, 1, 2]


def test_the_page_is_brought_up_to_date_once_in_ten_minutes(tmp_path, clock):
    sink = opened(Page(), tmp_path)
    seen = []
    for report in windows(5):
        sink.write(report, 0)
        file = tmp_path / page.NAME
        seen.append(file.exists() and f"{report.index + 1} window" in file.read_text())
        clock.now += page.REST / 2
    assert seen == [False, False, True, False, True]


def test_what_the_end_writes_anyway_is_not_written_twice(tmp_path, clock):
    for sink, name in ((Files(), "report.json"), (Page(), page.NAME)):
        opened(sink, tmp_path)
        clock.now += page.REST
        last = replace(make_report(), last=True)
        sink.write(last, 0)
        assert not (tmp_path / name).exists()
        sink.close(last)
        assert (tmp_path / name).exists()


def test_a_run_that_is_being_written_can_be_read(tmp_path, clock, monkeypatch):
    sink = opened(Files(), tmp_path)
    first, second = windows(2)
    sink.write(first, 0)
    clock.now += files.REST
    monkeypatch.setattr("os.replace", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        sink.write(replace(second, findings=[make_finding()]), 0)
    assert Report.load(tmp_path).index == 0


def test_a_run_that_is_killed_leaves_its_reports(tmp_path: Path, capsys):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -9
    assert main(["report", str(tmp_path), "--fail-on", "critical", "--save", str(tmp_path / "x.html")]) == 1
    assert "CRITICAL dead_neurons in body.0" in capsys.readouterr().out
    folder = tmp_path / "neurohealth"
    windows = json.loads((folder / "findings.json").read_text())
    assert [window["index"] for window in windows] == [0, 1, 2]
    assert "the worst CRITICAL" in (folder / page.NAME).read_text(encoding="utf-8")
    assert not list(folder.glob("*.tmp"))
