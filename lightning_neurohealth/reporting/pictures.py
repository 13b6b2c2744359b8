"""Reports as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.history import History
from lightning_neurohealth.reporting.spelling import encodable, printable, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOWS = 100
LAYERS = 60
TICKS = 4
WIDTH, ROW, TOP, BOTTOM, RIGHT = 4.0, 0.2, 0.3, 0.8, 0.75  # inches: boards show a picture some 270 pixels wide
DPI, FONT = 140, 9.5
NAME = 20  # characters of a layer's name
MARKERS = {Severity.WARNING: "o", Severity.SERIOUS: "^", Severity.CRITICAL: "X"}
SYMBOL: dict[str, Any] = {"markersize": 8, "color": "white", "markeredgecolor": "black", "markeredgewidth": 0.8}


def windows(report: Record, most: int = WINDOWS) -> list[Record]:
    """The report and those before it, the oldest first."""
    return list(History.of(report).reports[-most:])


def heatmap(reports: Sequence[Record], measure: str = "on_rate") -> Figure:
    """Layers in the order of execution down, windows across, the mean of the measure as colour, a mark on what is sick.

    At most the last 100 windows and 60 layers, the sick ones first among them. Needs matplotlib; leaves pyplot alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    reports = list(reports)[-WINDOWS:]
    known, names = chosen_layers(reports, measure)
    # fonts of matplotlib lack most scripts
    labels = [shorten(encodable(printable(name), "latin-1"), NAME) for name in names] or ["no such layer"]
    height = TOP + BOTTOM + ROW * max(len(names), 4)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)

    def area(x: float, wide: float) -> tuple[float, float, float, float]:
        return x / WIDTH, BOTTOM / height, wide / WIDTH, 1 - (TOP + BOTTOM) / height

    axes = figure.add_axes(area(1, 2))  # laid out by hand: matplotlib's own layout takes most of the time
    some = f", {len(names)} of {known} layers" if len(names) < known else ""
    figure.text(0.1 / WIDTH, 1 - 0.22 / height, f"{measure}, mean over neurons{some}", fontsize=FONT)
    axes.set_facecolor("lightgrey")  # shows where a value is missing or NaN
    axes.set_yticks(range(len(labels)), labels, fontsize=FONT, parse_math=False)
    left = 0.3 + max(label.get_window_extent().width for label in axes.get_yticklabels()) / figure.dpi
    axes.set_position(area(left, WIDTH - left - RIGHT))
    if names:
        values = [[_mean(report, name, measure) for report in reports] for name in names]
        low, high = _limits(values, measure)
        image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis", vmin=low, vmax=high)
        figure.colorbar(image, cax=figure.add_axes(area(WIDTH - RIGHT + 0.1, 0.12))).ax.tick_params(labelsize=FONT)
        for row, name in enumerate(names):
            _mark(axes, row, [report.layers[name].severity if name in report.layers else None for report in reports])
        _explain(axes)
    every = math.ceil(len(reports) / TICKS) or 1
    axes.set_xticks(range(0, len(reports), every), [str(report.step) for report in reports[::every]], fontsize=FONT)
    axes.set_xlabel("step", fontsize=FONT)
    return figure


def histograms(distributions: Mapping[str, Tensor], bins: int) -> Figure:
    """How often each number occurs, a panel a measure; what spans orders of magnitude over its logarithm.

    Args:
        distributions: Measure to finite numbers, one a neuron.
        bins: Bars of a panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.4 + 1.7 * len(distributions)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (measure, values) in zip(
        figure.subplots(len(distributions), squeeze=False)[:, 0], distributions.items(), strict=True
    ):
        positive = values[values > 0]
        low, high = (float(positive.min()), float(positive.max())) if positive.numel() else (1.0, 1.0)
        spans = not measure.endswith("_rate") and high > 100 * low
        shown = positive.log10() if spans else values
        axes.hist(shown.tolist(), bins, range=(0, 1) if measure.endswith("_rate") else None, color="tab:blue")
        none = f", {values.numel() - shown.numel():,} are 0" if spans and shown.numel() < values.numel() else ""
        axes.set_title(f"{measure}: {values.numel():,} neurons{none}", fontsize=FONT, loc="left")
        axes.set_xlabel(f"log10 of {measure}" if spans else measure, fontsize=FONT)
        axes.tick_params(labelsize=FONT)
    return figure


def chosen_layers(reports: Sequence[Record], measure: str) -> tuple[int, list[str]]:
    """How many layers have the measure, and those that are drawn."""
    sick: dict[str, bool] = {}
    for report in reports[::-1]:  # the last one knows the order best
        for name, layer in report.layers.items():
            if measure in layer:
                sick[name] = sick.get(name, False) or bool(layer.severity)
    drawn = set(sorted(sick, key=lambda name: not sick[name])[:LAYERS])
    return len(sick), [name for name in sick if name in drawn]


def _mean(report: Record, name: str, measure: str) -> float:
    layer = report.layers.get(name)
    value = layer.means.get(measure, math.nan) if layer is not None else math.nan
    return value if math.isfinite(value) else math.nan


def _limits(values: list[list[float]], measure: str) -> tuple[float, float]:
    if measure.endswith("_rate"):
        return 0.0, 1.0
    finite = [value for row in values for value in row if math.isfinite(value)]
    return min(finite, default=0.0), max(finite, default=1.0)


def _mark(axes: Axes, row: int, severities: list[Severity | None]) -> None:
    """A symbol where a severity begins, and a line as long as it lasts."""
    start = 0
    for severity, stretch in groupby(severities):
        end = start + len(list(stretch)) - 1
        if severity:
            for colour, wide in (("black", 2.5), ("white", 1.2)):
                axes.plot([start, end], [row, row], color=colour, linewidth=wide)
            axes.plot(start, row, MARKERS[severity], label=severity.name, **SYMBOL)
        start = end + 1


def _explain(axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    legend = {severity.name: handles[names.index(severity.name)] for severity in MARKERS if severity.name in names}
    if legend:
        axes.figure.legend(legend.values(), legend.keys(), loc="lower center", ncols=3, fontsize=FONT, frameon=False)
