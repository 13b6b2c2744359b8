"""The command line: what it prints, and what its exit code says."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_neurohealth
from lightning_neurohealth import Report
from lightning_neurohealth.__main__ import main
from tests.reporting.by_hand import make_finding, make_report


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, findings in (
        ("healthy", []),
        ("sick", [make_finding(severity=2)]),
        ("worse", [make_finding(severity=3)]),
    ):
        folder = tmp_path / name / "neurohealth"
        folder.mkdir(parents=True)
        make_report(findings=findings).save(folder / "report.json")
    return tmp_path


def test_report_prints_the_last_report(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs / "sick")]) == 0
    assert capsys.readouterr().out == f"{Report.load(runs / 'sick')}\n"


@pytest.mark.parametrize(
    ("run", "limit", "code"),
    [
        ("healthy", "warning", 0),
        ("sick", "warning", 1),
        ("sick", "serious", 1),
        ("sick", "critical", 0),
        ("worse", "critical", 1),
    ],
)
def test_report_fails_on_what_it_is_told(runs: Path, run: str, limit: str, code: int) -> None:
    assert main(["report", str(runs / run), "--fail-on", limit]) == code


def test_report_saves(runs: Path) -> None:
    assert main(["report", str(runs / "sick"), "--save", str(runs / "x.json")]) == 0
    assert Report.load(runs / "x.json").severity.name == "SERIOUS"


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [("healthy", "sick", 1), ("sick", "healthy", 0), ("sick", "worse", 1), ("sick", "sick", 0)],
)
def test_diff_fails_if_a_layer_got_worse(
    runs: Path, before: str, after: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(runs / before), str(runs / after)]) == code
    assert ("worse:\n" in capsys.readouterr().out) == bool(code)


def test_what_cannot_be_read_is_said_in_one_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newer = runs / "newer.json"
    document = json.loads((runs / "sick" / "neurohealth" / "report.json").read_text())
    newer.write_text(json.dumps(document | {"schema": 99}))
    (runs / "broken.json").write_text("{")
    cases = [
        (["report", runs], f"{runs} has no neurohealth/report.json; there is one in {runs / 'healthy'}"),
        (["report", runs / "nowhere"], "does not exist"),
        (["report", newer], "has schema 99, and this version of lightning-neurohealth reads up to 1"),
        (["report", runs / "broken.json"], "is no JSON"),
        (["diff", runs / "sick", runs / "nowhere"], "does not exist"),
        (["report", runs / "sick", "--save", runs / "x.txt"], "must end in .html, .json or .csv"),
        (["report", runs / "sick", "--save", runs / "no" / "x.json"], "No such file"),
    ]
    for arguments, said in cases:
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.startswith(f"neurohealth {arguments[0]}: ")
        assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["report"], ["report", "x", "--fail-on", "bad"], ["diff", "x"], ["dance"]])
def test_wrong_usage_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: neurohealth" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_speaks_to_any_terminal(runs: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["diff", str(runs / "healthy"), str(runs / "sick")]) == 1
    text = terminal.buffer.getvalue().decode(encoding)
    assert "SERIOUS" in text
    assert max(map(len, text.splitlines())) <= 40


def test_runs_as_a_module_and_a_reader_that_has_seen_enough_is_no_error(runs: Path) -> None:
    command = f"{sys.executable} -m lightning_neurohealth report {runs / 'sick'} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def loaded(*commands: list[str | Path]) -> set[str]:
    """Modules that commands have imported, in a process of their own; each has printed something."""
    script = """
import contextlib, io, sys
from lightning_neurohealth.__main__ import main
for command in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main(command.splitlines())
    assert printed.getvalue(), command
print(*sys.modules)
"""
    run = [sys.executable, "-c", script, *("\n".join(map(str, command)) for command in commands)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_help_waits_for_no_large_package() -> None:
    assert not loaded(["--help"]) & {"torch", "lightning", "torchmetrics", "rich", "numpy"}


def test_what_reads_reports_waits_for_no_trainer(runs: Path) -> None:
    modules = loaded(["report", runs / "sick"], ["diff", runs / "sick", runs / "healthy"])
    assert not modules & {"lightning", "torchmetrics", "transformers", "scipy", "matplotlib"}


def test_every_public_name_is_there() -> None:
    for name in lightning_neurohealth.__all__:
        assert getattr(lightning_neurohealth, name).__name__ == name
    assert set(lightning_neurohealth.__all__) <= set(dir(lightning_neurohealth))
    with pytest.raises(AttributeError, match="module 'lightning_neurohealth' has no attribute 'NeuronHealt'"):
        lightning_neurohealth.NeuronHealt  # noqa: B018
