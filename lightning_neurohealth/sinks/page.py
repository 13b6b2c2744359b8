"""Reports as one page, in a file."""

from __future__ import annotations

from importlib.util import find_spec

from lightning_neurohealth.packing import replace_file
from lightning_neurohealth.report import Report
from lightning_neurohealth.reporting.page import html_page
from lightning_neurohealth.sinks.base import Place, Sink
from lightning_neurohealth.sinks.pace import Pace

NAME = "report.html"
REST = 600.0  # seconds
MISSING = "NeuronHealth: report.html needs plotly and is not written: pip install 'lightning-neurohealth[page]'"


class Page(Sink):
    """Writes ``report.html`` into the folder ``neurohealth`` of the trainer's log directory: one file with everything
    in it, to be opened in a browser. Without plotly it says so, once, and writes nothing.

    It is written when the run ends, and at the end of a window after each ten minutes, or more rarely where that takes
    more than a hundredth of the time.
    """

    def open(self, place: Place) -> None:
        super().open(place)
        self._pace = Pace(REST, first=REST)
        if place.folder is not None:
            (place.folder / NAME).unlink(missing_ok=True)

    def write(self, report: Report, step: int) -> None:
        if self._pace.due and not report.last and find_spec("plotly") is not None:
            with self._pace.turn():
                self._write(report)

    def close(self, report: Report | None) -> None:
        if self.place.folder is None or report is None:
            return
        if find_spec("plotly") is None:
            self.place.echo(MISSING)
            return
        self._write(report)

    def _write(self, report: Report) -> None:
        folder = self.place.folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / NAME, html_page(report, "/".join(folder.absolute().parent.parts[-2:])))
