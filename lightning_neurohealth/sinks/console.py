"""Reports on the terminal."""

from __future__ import annotations

from typing import Literal

from rich.text import Text

from lightning_neurohealth.report import Report
from lightning_neurohealth.sinks.base import Place, Sink
from lightning_neurohealth.terminal import rendered


class Console(Sink):
    """Prints the health table of a window without breaking the progress bar: coloured on a terminal, plain elsewhere.

    Args:
        every: ``"change"`` prints the table of the first and the last window and of each in which a finding appears,
            gets better or worse, or recovers, and one line for the others; ``"window"`` prints it each time.
    """

    def __init__(self, every: Literal["change", "window"] = "change") -> None:
        if every not in ("change", "window"):
            raise ValueError(f"Console: every={every!r}: must be 'change' or 'window'")
        self.every = every

    def open(self, place: Place) -> None:
        super().open(place)
        self._before: set[tuple[object, ...]] | None = None
        self._table_owed = False

    def write(self, report: Report, step: int) -> None:
        now: set[tuple[object, ...]] = {(f.condition, f.layer, f.severity) for f in report.findings}
        same = now == self._before and not report.recovered
        self._before = now
        self._table_owed = self.every == "change" and same and not report.last
        self.place.echo(rendered(Text(_line(report)) if self._table_owed else report))

    def close(self, report: Report | None) -> None:
        if report is not None and self._table_owed:  # nobody knew that this window was the last one
            self.place.echo(rendered(report))
        self._table_owed = False


def _line(report: Report) -> str:
    number = len(report.findings)
    news = f"{number} finding{'s' if number > 1 else ''} as before" if number else "healthy"
    return f"Neuron health epoch {report.epoch}, step {report.step}: {news}"
