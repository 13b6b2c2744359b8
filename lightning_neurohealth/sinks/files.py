"""Reports as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lightning_neurohealth.packing import plain, replace_file
from lightning_neurohealth.report import Report
from lightning_neurohealth.sinks.base import Place, Sink
from lightning_neurohealth.sinks.pace import Pace

COLUMNS = ("window", "epoch", "step", "layer", "measure", "mean", "min", "max", "neurons")
EACH = 100
REST = 60.0  # seconds


class Files(Sink):
    """Writes into the folder ``neurohealth`` of the trainer's log directory:

    - ``findings.json``: a list with the findings and the coverage of each window. What JSON has no number for is a
      string: ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.
    - ``measures.csv``: a row a window, layer and measure with the mean, least and greatest of its neurons; rows of the
      run as a whole have no layer, and their ``neurons`` counts points.
    - ``health.txt``: the report of the last window.
    - ``report.json``: all windows, as :meth:`Report.load` reads them.

    A run begins them anew. While it goes on, ``findings.json`` and ``report.json`` are brought up to date at the end of
    a window, once a minute at most and more rarely where that takes more than a hundredth of the time; so a run that is
    killed leaves both. Each is replaced as a whole: whoever reads it sees the old one or the new one.
    """

    def open(self, place: Place) -> None:
        super().open(place)
        self._windows: list[str] = []
        self._pending = 0
        self._pace = Pace(REST)
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
        due = self._pace.due
        # The list is rewritten as a whole, so that it is valid at any time; in a long run not at every window.
        if due or report.last or self._pending * EACH >= len(self._windows):
            self._write_findings(folder)
        if due and not report.last:  # then close writes it
            with self._pace.turn():
                self._write_report(folder, report)

    def close(self, report: Report | None) -> None:
        folder = self.place.folder
        if folder is None:
            return
        if self._pending:
            self._write_findings(folder)
        if report is not None:
            self._write_report(folder, report)

    def _write_report(self, folder: Path, report: Report) -> None:
        replace_file(folder / "report.json", report.to_json())

    def _write_findings(self, folder: Path) -> None:
        replace_file(folder / "findings.json", "[" + ",\n".join(self._windows) + "]\n")
        self._pending = 0


def rows(report: Report) -> Iterator[tuple[object, ...]]:
    """The rows of one window in ``measures.csv``."""
    where = (report.index, report.epoch, report.step)
    for name, layer in [*report.layers.items(), ("", report.run)]:
        yield from ((*where, name, measure, *numbers) for measure, numbers in _summaries(layer).items())


def _summaries(measures: Mapping[str, Tensor]) -> dict[str, tuple[str, str, str, int]]:
    """Measure to the mean, the least, the greatest and the number of its values."""
    alike: dict[tuple[torch.Size, torch.device], list[str]] = {}
    for name, values in measures.items():
        if values.numel():
            alike.setdefault((values.shape, values.device), []).append(name)
    found: dict[str, tuple[str, str, str, int]] = {}
    for names in alike.values():  # together: one by one takes a tenth of a second for 200 layers
        table = torch.stack([measures[name].flatten().double() for name in names])
        columns = torch.stack([table.mean(1), table.amin(1), table.amax(1)], 1).tolist()
        for name, (mean, low, high) in zip(names, columns, strict=True):
            found[name] = f"{mean:.6g}", f"{low:.6g}", f"{high:.6g}", table.shape[1]
    return {name: found[name] for name in measures if name in found}
