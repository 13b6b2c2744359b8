"""The demonstration finds what was planted, and its exit says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_neurohealth import Report, demo
from lightning_neurohealth.__main__ import main


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    folder = tmp_path_factory.mktemp("demo")
    return main(["demo", "--folder", str(folder), "--epochs", "3"]), folder / "run_1"


def test_exit_says_that_all_was_found(ran: tuple[int, Path]) -> None:
    assert ran[0] == 0


def test_planted_layers_are_in_the_files(ran: tuple[int, Path]) -> None:
    windows = json.loads((ran[1] / "sick" / "neurohealth" / "findings.json").read_text())
    found = {finding["layer"]: finding["condition"] for finding in windows[-1]["findings"]}
    assert demo.PLANTED.items() <= found.items()


def test_healthy_network_has_nothing_serious(ran: tuple[int, Path]) -> None:
    windows = json.loads((ran[1] / "healthy" / "neurohealth" / "findings.json").read_text())
    assert len(windows) == 3
    assert {f["severity"] for window in windows for f in window["findings"]} <= {"WARNING"}


def test_loggers_have_their_runs(ran: tuple[int, Path]) -> None:
    for name in ("healthy", "sick"):
        assert list((ran[1] / name).glob("events.out.tfevents.*"))
        assert "neurohealth/score" in (ran[1] / name / "csv" / "metrics.csv").read_text()


def test_exit_is_not_zero_when_a_planted_fault_is_missed(
    ran: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(sick: bool, folder: Path, epochs: int) -> demo.Outcome:
        name = "sick" if sick else "healthy"
        return demo.Outcome(name, Report.load(ran[1] / name), folder)

    monkeypatch.setattr(demo, "PLANTED", {"fc1": "dead_neurons"})
    monkeypatch.setattr(demo, "train", trained)
    assert main(["demo", "--folder", str(tmp_path)]) == 1
    assert "dead_neurons in fc1: MISSED" in capsys.readouterr().out


def test_bad_epochs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "--epochs", "0"])
    assert "must be at least 1" in capsys.readouterr().err
