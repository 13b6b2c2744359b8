"""``Report.plot``: one matplotlib picture, drawn where the user likes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.history import History, spread
from lightning_neurohealth.reporting.shapes import SHAPE, learned_shapes, reach
from lightning_neurohealth.reporting.spelling import encodable, printable, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = 25
CURVES = 8
TICKS = 10
WIDE = 32  # characters of a layer's name
MARKS = {Severity.WARNING: "o", Severity.SERIOUS: "^", Severity.CRITICAL: "X"}


def plot(report: Record, measure: str, layer: str | None, ax: Axes | None) -> tuple[Figure, Axes]:
    """See :meth:`~lightning_neurohealth.report.Report.plot`."""
    history = History.of(report)
    _check("measure", measure, history.measures)
    if layer is not None:
        _check("layer", layer, history.layers)
        _check("layer with this measure", layer, history.measures[measure])
    if ax is None:
        from matplotlib import pyplot

        rows = len(history.measures[measure]) if layer is None else 24
        ax = pyplot.subplots(figsize=(8, min(max(2.4, 1.2 + 0.24 * rows), 12)), layout="constrained")[1]
    if measure == SHAPE:
        _shapes(ax, history, history.measures[SHAPE] if layer is None else [layer], layer is None)
    elif layer is None:
        _layers(ax, history, measure)
    else:
        _neurons(ax, history, measure, layer)
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure, ax


def _layers(ax: Axes, history: History, measure: str) -> None:
    names = history.measures[measure]
    _image(ax, history.means(measure).T, measure, [report.step for report in history.reports])
    _rows(ax, [_readable(name) for name in names])
    ax.set_title(f"{measure}: mean over neurons", loc="left")
    for severity, mark in MARKS.items():
        sick = [
            (column, row)
            for row, name in enumerate(names)
            for column, report in enumerate(history.reports)
            if name in report.layers and report.layers[name].severity is severity
        ]
        if sick:
            columns, rows = zip(*sick, strict=True)
            ax.scatter(columns, rows, marker=mark, color="white", edgecolors="black", s=28, label=severity.name)
    if ax.get_legend_handles_labels()[0]:
        ax.set_title(ax.get_title(loc="left"), loc="left", pad=22)  # room for the legend below it
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, ncols=3, fontsize="small", frameon=False)


def _neurons(ax: Axes, history: History, measure: str, layer: str) -> None:
    places, values = history.neurons(measure, layer)
    steps = [history.reports[place].step for place in places]
    ax.set_title(f"{measure} of {_readable(layer)}", loc="left")
    if places:
        _image(ax, values.T, measure, steps)
        _rows(ax, [str(neuron) for neuron in range(values.shape[1])])
        ax.set_ylabel("neuron")
        return
    means = history.means(measure)[:, history.measures[measure].index(layer)]
    ax.plot([report.step for report in history.reports], means.tolist(), marker="o", markersize=3)
    ax.set_xlabel("step at the end of the window")
    ax.set_ylabel(measure)


def _shapes(ax: Axes, history: History, layers: Sequence[str], last: bool) -> None:
    """Of several layers the last shape, of one the shape in some windows."""
    curves = []
    for layer in layers:
        found = learned_shapes(history, layer)
        chosen = found[-1:] if last else [found[i] for i in spread(len(found), CURVES)]
        titles = [_readable(layer) if last else f"step {history.reports[place].step}" for place, _ in chosen]
        curves += list(zip(titles, (shape for _, shape in chosen), strict=True))
    from matplotlib import colormaps

    for i, (title, shape) in enumerate(curves):
        colour = colormaps["viridis"](0.9 * i / max(len(curves) - 1, 1))
        ax.plot(reach(shape).tolist(), shape.tolist(), color=colour, label=title if i < CURVES else None)
    ax.axhline(0, color="0.8", zorder=0)
    ax.axvline(0, color="0.8", zorder=0)
    ax.set_title("learned activations" if last else f"learned activation of {_readable(layers[0])}", loc="left")
    ax.set_xlabel("z")
    ax.set_ylabel("f(z)")
    if curves:
        ax.legend(fontsize="small", frameon=False)


def _image(ax: Axes, values: Tensor, measure: str, steps: Sequence[int]) -> None:
    limits: dict[str, Any] = {"vmin": 0, "vmax": 1} if measure.endswith("_rate") else {}
    finite = values.where(values.isfinite(), math.nan)
    ax.set_facecolor("lightgrey")  # shows where a value is missing or NaN
    image = ax.imshow(finite.numpy(), aspect="auto", interpolation="nearest", cmap="viridis", **limits)
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax)
    every = math.ceil(len(steps) / TICKS)
    ax.set_xticks(range(0, len(steps), every), [str(step) for step in steps[::every]])
    ax.set_xlabel("step at the end of the window")


def _rows(ax: Axes, labels: Sequence[str]) -> None:
    every = math.ceil(len(labels) / LABELS)
    ax.set_yticks(range(0, len(labels), every), labels[::every], fontsize="small", parse_math=False)


def _readable(name: str) -> str:
    return shorten(encodable(printable(name), "latin-1"), WIDE)  # fonts of matplotlib lack most scripts


def _check(what: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        near = get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known[:20]) or 'none'}"
        raise KeyError(f"plot: no {what} is called {name!r}; {hint}")
