"""Reports as files."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

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

    A run begins them anew.
    """

    def open(self, place: Place) -> None:
        super().open(place)
        self._windows: list[str] = []
        self._pending = 0
        if place.folder is None:
            return
        place.folder.mkdir(parents=True, exist_ok=True)
        (place.folder / "health.txt").unlink(missing_ok=True)
        self._write_findings(place.folder)
        with (place.folder / "measures.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerow(COLUMNS)

    def write(self, report: Report, step: int) -> None:
        folder = self.place.folder
        if folder is None:
            return
        with (folder / "measures.csv").open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows(rows(report))
        _replace(folder / "health.txt", f"{report}\n")
        self._windows.append(json.dumps(plain(report.to_dict()), allow_nan=False))
        self._pending += 1
        # The list is rewritten as a whole, so that it is valid at any time; in a long run not at every window.
        if report.last or self._pending * EACH >= len(self._windows):
            self._write_findings(folder)

    def close(self, report: Report | None) -> None:
        if self.place.folder is not None and self._pending:
            self._write_findings(self.place.folder)

    def _write_findings(self, folder: Path) -> None:
        _replace(folder / "findings.json", "[" + ",\n".join(self._windows) + "]\n")
        self._pending = 0


def rows(report: Report) -> Iterator[tuple[object, ...]]:
    """The rows of one window in ``measures.csv``."""
    where = (report.index, report.epoch, report.step)
    for name, layer in report.layers.items():
        for measure, values in layer.items():
            yield from ((*where, name, measure, *numbers) for numbers in _summary(values))
    for measure, values in report.run.items():
        yield from ((*where, "", measure, *numbers) for numbers in _summary(values))


def plain(value: Any) -> Any:
    """The value as strict JSON takes it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    number = float(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _summary(values: Tensor) -> Iterator[tuple[str, str, str, int]]:
    if values.numel():
        values = values.double()
        low, high = values.aminmax()
        yield f"{float(values.mean()):.6g}", f"{float(low):.6g}", f"{float(high):.6g}", values.numel()


def _replace(path: Path, text: str) -> None:
    """All or nothing: whoever reads the file meanwhile sees the old one."""
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(beside, path)
