"""When a run breaks off, the last report and the files say what was known then."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.multiprocessing import start_processes

from lightning_neurohealth import Monitor, NeuronHealth, Report
from lightning_neurohealth.sinks import Files
from tests.training import MLP, Learner, make_data, make_trainer


class Exploding(Learner):
    """The weights of ``fc1`` become infinite at a step, and the user ends the run when the loss is not finite."""

    def __init__(self, at: int) -> None:
        torch.manual_seed(0)
        super().__init__(MLP())
        self.at = at

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if self.trainer.global_step == self.at:
            self.net.fc1.weight.data.fill_(torch.inf)
        loss = super().training_step(batch, batch_idx)
        if not loss.isfinite():
            raise FloatingPointError("of the user")
        return loss


def health_with_files(**settings: Any) -> NeuronHealth:
    return NeuronHealth(**{"every_n_steps": 1, "sinks": [Files()], **settings})


def written(folder: Path, report: Report) -> dict[str, Any]:
    """The last window in the files, which are all there."""
    (folder,) = folder.rglob("neurohealth")
    last = json.loads((folder / "findings.json").read_text())[-1]
    assert (folder / "health.txt").read_text().strip() == str(report).strip()
    assert (folder / "measures.csv").read_text().splitlines()[-1].startswith(f"{report.index},")
    return last


@pytest.mark.parametrize("at", [0, 1, 2, 9])
def test_the_step_that_ends_the_run_is_named(at: int, tmp_path: Path) -> None:
    health = health_with_files(window=4)
    with pytest.raises(FloatingPointError):
        make_trainer(health, max_epochs=5, logger=CSVLogger(tmp_path)).fit(Exploding(at), make_data())
    (finding,) = health.report.findings
    assert (finding.condition, finding.layer) == ("non_finite", "net.fc1")
    assert f"step {at}" in finding.message
    assert health.report.last
    assert [f["layer"] for f in written(tmp_path, health.report)["findings"]] == ["net.fc1"]
    # of a step that failed nothing else counts
    rows = health.report["net.fc2"].get("activation_rows", torch.tensor(0.0))
    assert float(rows) == 8 * (at % 4)


def test_a_sound_step_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    health = health_with_files()
    model = Learner(MLP(), at_step=lambda model, step: 1 / (2 - step))
    with pytest.raises(ZeroDivisionError):
        make_trainer(health, logger=CSVLogger(tmp_path)).fit(model, make_data())
    assert (health.report.measured, health.report.findings) == (2, [])
    assert written(tmp_path, health.report)["measured"] == 2


@pytest.fixture
def handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("handlers")
def test_a_job_that_is_told_to_end_writes_its_files(tmp_path: Path) -> None:
    def end(model: Learner, step: int) -> None:
        if model.trainer.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    health = health_with_files(window=4)
    with pytest.raises(SIGTERMException):
        make_trainer(health, max_epochs=5, logger=CSVLogger(tmp_path)).fit(Learner(MLP(), at_step=end), make_data())
    assert [(r.steps, r.last) for r in health.reports] == [(4, False), (3, True)]
    assert written(tmp_path, health.report)["steps"] == 3


def break_off(rank: int, folder: str) -> None:
    """Rank 0 breaks off and closes its window while rank 1 is gone already."""
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    if rank == 1:
        return
    net = MLP()
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        net(torch.ones(8, 4)).sum().backward()
    report = monitor.close(last=True, alone=True)
    state = monitor.state_dict(alone=True)
    rows = float(report["fc1"]["activation_rows"])
    Path(folder, "0.json").write_text(json.dumps({**report.to_dict(), "rows": rows, "state": list(state)}))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_a_rank_that_breaks_off_waits_for_nobody(tmp_path: Path) -> None:
    start_processes(break_off, (str(tmp_path),), nprocs=2, start_method="fork")
    report = json.loads((tmp_path / "0.json").read_text())
    assert report["rows"] == 8
    assert "other ranks" in report["coverage"]["missed"]["*"]
    assert "tree" in report["state"]
