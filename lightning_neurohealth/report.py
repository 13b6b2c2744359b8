"""A window's record, as it is shown, saved and loaded."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

from lightning_neurohealth.packing import replace_file
from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.archive import load, to_document
from lightning_neurohealth.reporting.history import History
from lightning_neurohealth.reporting.plots import plot
from lightning_neurohealth.reporting.table import HealthTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class Report(Record):
    """The measures and findings of one window; a mapping of layers in the order of execution.

    >>> report["fc1"]["on_rate"]  # doctest: +SKIP
    tensor([0.51, 0.48, ...])

    What it holds stands at :class:`~lightning_neurohealth.record.Record`; it prints as a table.
    """

    previous: Report | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> str:
        """This window and those before it as one JSON document, which :meth:`load` reads back.

        It holds the findings and the mean of every measure of every window, and each neuron's numbers: of all measures
        in this window, of ``on_rate``, ``saturation_rate`` and ``gradient_flow`` in those before; of learned shapes 20
        windows. Numbers are packed in single precision.
        """
        return json.dumps(to_document(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """The last report of a run, with its predecessors, from what :meth:`save` or a run has written.

        Args:
            path: The file, or the folder of a run that has one: ``report.json``, in ``neurohealth`` or by itself.

        Raises:
            FileNotFoundError: There is no report.
            ValueError: The file is none of ours, damaged, or of a newer version.
        """
        return load(Path(path), cls)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this window and those before it, in the format that the name's end says.

        ``.html``: one page that explains itself and works offline (needs plotly); ``.json``: what :meth:`load` reads;
        ``.csv``: the table of :meth:`to_frame` (needs pandas).

        Raises:
            ValueError: The name has another end.
        """
        end = Path(path).suffix.lower()
        if end == ".html":
            # it knows all measures, and their torchmetrics is slow to import
            from lightning_neurohealth.reporting.page import html_page

            text = html_page(self)
        elif end == ".json":
            text = self.to_json()
        elif end == ".csv":
            text = self.to_frame().to_csv(index=False)
        else:
            raise ValueError(f"save({str(path)!r}): the name must end in .html, .json or .csv")
        replace_file(Path(path), text)

    def to_frame(self) -> DataFrame:
        """A pandas table with a row for each window so far, layer and measure: the mean over neurons.

        Columns: window, epoch, step, layer, measure, value. Rows of the run as a whole have no layer; of a series, such
        as ``train_loss``, ``value`` is the mean of its points.
        """
        return History.of(self).frame()

    def plot(self, measure: str | None = None, layer: str | None = None, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draw the windows so far with matplotlib, as torchmetrics' ``plot`` does.

        Args:
            measure: ``None`` for ``"on_rate"``.
            layer: ``None`` for layers × windows; else neurons × windows of one layer, or a line for a measure that has
                one number a layer. ``"learned_shape"`` is drawn as curves: of each layer, or of one in several windows.
            ax: Where to draw; ``None`` for a figure of its own.

        Returns:
            The figure and its axes.

        Raises:
            KeyError: No window has such a layer or measure.
        """
        return plot(self, "on_rate" if measure is None else measure, layer, ax)

    def __rich__(self) -> RenderableType:
        return HealthTable(self)

    def __str__(self) -> str:
        # in the characters of stdout, so that print() never fails
        out = io.TextIOWrapper(io.BytesIO(), encoding=getattr(sys.stdout, "encoding", None) or "utf-8")
        width = max(shutil.get_terminal_size((100, 24)).columns, 40)
        Console(file=out, width=width, color_system=None, force_terminal=False).print(self)
        out.seek(0)
        return "\n".join(line.rstrip() for line in out.read().splitlines())

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=110)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre style='line-height:1.2'>{code}</pre>")
