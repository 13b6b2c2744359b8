"""Reports as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from lightning_neurohealth.packing import plain, replace_file
from lightning_neurohealth.report import Report
from lightning_neurohealth.sinks.base import Place, Sink

COLUMNS = ("window", "epoch", "step", "layer", "measure", "mean", "min", "max", "neurons")
EACH = 100


class Files(Sink):
    """Writes into the folder ``neurohealth`` of the trainer's log directory:

    - ``findings.json``: a list with the findings and the coverage of each window. What JSON has no number for is a
      string: ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.
    - ``measures.csv``: a row a window, layer and measure with the mean, least and greatest of its neurons; rows of the
      run as a whole have no layer, and their ``neurons`` counts points.
    - ``health.txt``: the report of the last window.
    - ``report.json``, when the run ends: all windows, as :meth:`Report.load` reads them.

    A run begins them anew.
    """

    def open(self, place: Place) -> None:
        super().open(place)
        self._windows: list[str] = []
        self._pending = 0
        if place.folder is None:
            return
        place.folder.mkdir(parents=True, exist_ok=True)
        for name in ("health.txt", "report.json"):
            (place.folder / name).unlink(missing_ok=True)
        self._write_findings(place.folder)
        with (place.folder / "measures.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerow(COLUMNS)

    def write(self, report: Report, step: int) -> None:
        folder = self.place.folder
        if folder is None:
            return
        with (folder / "measures.csv").open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows(rows(report))
        replace_file(folder / "health.txt", f"{report}\n")
        self._windows.append(json.dumps(plain(report.to_dict()), allow_nan=False))
        self._pending += 1
        # The list is rewritten as a whole, so that it is valid at any time; in a long run not at every window.
        if report.last or self._pending * EACH >= len(self._windows):
            self._write_findings(folder)

    def close(self, report: Report | None) -> None:
        folder = self.place.folder
        if folder is None:
            return
        if self._pending:
            self._write_findings(folder)
        if report is not None:
            replace_file(folder / "report.json", report.to_json())

    def _write_findings(self, folder: Path) -> None:
        replace_file(folder / "findings.json", "[" + ",\n".join(self._windows) + "]\n")
        self._pending = 0


def rows(report: Report) -> Iterator[tuple[object, ...]]:
    """The rows of one window in ``measures.csv``."""
    where = (report.index, report.epoch, report.step)
    for name, layer in report.layers.items():
        for measure, values in layer.items():
            yield from ((*where, name, measure, *numbers) for numbers in _summary(values))
    for measure, values in report.run.items():
        yield from ((*where, "", measure, *numbers) for numbers in _summary(values))


def _summary(values: Tensor) -> Iterator[tuple[str, str, str, int]]:
    if values.numel():
        values = values.double()
        low, high = values.aminmax()
        yield f"{float(values.mean()):.6g}", f"{float(low):.6g}", f"{float(high):.6g}", values.numel()
