import io
import re
import sys

import pytest
import rich
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from torch import nn

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.sinks import Console, Place
from lightning_neurohealth.terminal import rendered
from tests.reporting.by_hand import make_finding, make_report

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
NAME = "a[0] [bold red]x[/bold red]"


class Stream(io.TextIOWrapper):
    """A stdout of any encoding that may say that it is a terminal."""

    def __init__(self, terminal, encoding):
        super().__init__(io.BytesIO(), encoding=encoding, newline="")
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture
def stdout(monkeypatch):
    """Replaces stdout."""

    def replace(terminal=False, encoding="utf-8", width=80):
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stdout", Stream(terminal, encoding))
        return sys.stdout

    return replace


def told(reports, every="change", close=True):
    """What the sink prints of some windows, a string each."""
    out: list[str] = []
    sink = Console(every)
    sink.open(Place(echo=out.append))
    for report in reports:
        sink.write(report, report.step)
    if close:
        sink.close(reports[-1])
    return out


def kinds(texts):
    return ["table" if "measured" in text else "line" for text in texts]


def windows(*findings, last=False):
    """A report a window; a list of findings each."""
    reports = []
    for index, found in enumerate(findings):
        before = reports[-1] if reports else None
        keys = {(f.condition, f.layer) for f in found}
        recovered = [f for f in before.findings if (f.condition, f.layer) not in keys] if before else []
        reports.append(
            make_report(
                findings=found,
                index=index,
                previous=before,
                recovered=recovered,
                last=last and index == len(findings) - 1,
            )
        )
    return reports


def test_an_unchanged_window_is_one_line():
    out = told(windows([], [], [], last=True))
    assert kinds(out) == ["table", "line", "table"]
    assert out[1] == "Neuron health epoch 1, step 80: healthy"


def test_findings_as_before():
    out = told(windows([make_finding(), make_finding("fc2")], [make_finding("fc2"), make_finding()], last=False))
    assert out[1] == "Neuron health epoch 1, step 80: 2 findings as before"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [make_finding()]),
        ([make_finding(severity=1)], [make_finding(severity=3)]),
        ([make_finding(severity=3)], [make_finding(severity=1)]),
        ([make_finding()], []),
        ([make_finding("fc1")], [make_finding("fc2")]),
    ],
    ids=["appears", "worsens", "eases", "recovers", "moves"],
)
def test_any_change_prints_the_table(before, after):
    assert kinds(told(windows(before, before, after, after), close=False)) == ["table", "line", "table", "line"]


def test_the_table_follows_when_a_run_ends_unannounced():
    reports = windows([], [])
    out = told(reports)
    assert kinds(out) == ["table", "line", "table"]
    assert out[2] == rendered(reports[1])


def test_every_window():
    assert kinds(told(windows([], [], [], last=True), every="window")) == ["table"] * 3


def test_a_second_run_begins_with_a_table():
    out: list[str] = []
    sink = Console()
    for _ in range(2):
        sink.open(Place(echo=out.append))
        sink.write(make_report(), 0)
        sink.close(make_report())
    assert kinds(out) == ["table", "table"]


def test_a_run_without_a_window_prints_nothing():
    out: list[str] = []
    sink = Console()
    sink.open(Place(echo=out.append))
    sink.close(None)
    assert out == []


def test_every_is_checked():
    with pytest.raises(ValueError, match="every='epoch': must be 'change' or 'window'"):
        Console("epoch")  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_gets_colours_within_its_width(stdout, width):
    stdout(terminal=True, width=width)
    text = rendered(make_report(findings=[make_finding()]))
    assert "\x1b[31mSERIOUS dead_neurons\x1b[0m" in text
    lines = [line.rstrip() for line in ANSI.sub("", text).splitlines()]
    assert max(map(len, lines)) <= width
    assert lines.count("2 healthy: fc2, head") == 1


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_file_gets_plain_text(stdout, width):
    stdout(terminal=False, width=width)
    text = rendered(make_report(findings=[make_finding()]))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= width
    assert not any(line.endswith(" ") for line in text.splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("terminal", [True, False])
def test_printing_never_fails_for_want_of_characters(stdout, encoding, terminal):
    out = stdout(terminal, encoding)
    sink = Console()
    sink.open(Place())
    sink.write(make_report(["层" * 100, "head"], [make_finding("层" * 100, message="α × β")]), 0)
    assert "dead_neurons" in out.text()
    assert ("─" in out.text()) == (encoding == "utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_print_of_a_report_never_fails_for_want_of_characters(stdout, encoding):
    out = stdout(encoding=encoding)
    print(make_report(["层", "head"], [make_finding("层", message="α × β")]))
    assert "SERIOUS dead_neurons in " + ("层" if encoding == "utf-8" else "?") in out.text()


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({NAME: nn.Linear(4, 8), "head": nn.Linear(8, 1)})

    def training_step(self, batch, index):
        return self.layers["head"](self.layers[NAME](batch).relu()).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("bar", [RichProgressBar, TQDMProgressBar, None])
def test_the_table_survives_the_progress_bar(stdout, bar, terminal, tmp_path):
    out = stdout(terminal)
    health = NeuronHealth(every_n_steps=1, sinks=[Console("window")])
    trainer = Trainer(
        max_epochs=2,
        callbacks=[health, bar()] if bar else [health],
        enable_progress_bar=bar is not None,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        accelerator="cpu",
    )
    try:
        trainer.fit(Net(), torch.utils.data.DataLoader(torch.randn(12, 4), batch_size=4))
    finally:
        rich.reconfigure()  # RichProgressBar leaves rich's global console as wide as this test's terminal
    # a bar on a terminal is drawn again between two lines, and taken away again
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", ANSI.sub("", out.text())) if "it/s" not in line]
    for report in health.reports:
        table = [line.rstrip() for line in ANSI.sub("", rendered(report)).splitlines()]
        assert any(NAME in line for line in table)
        starts = [i for i, line in enumerate(lines) if line.endswith(table[0])]
        assert [lines[i + 1 : i + len(table)] for i in starts] == [table[1:]]
    if terminal:
        assert "\x1b[32mhealthy" in out.text()
