"""The numbers behind the page."""

from __future__ import annotations

import inspect
import math
from itertools import groupby
from typing import Any

from torch import Tensor

from lightning_neurohealth.activations.activation import CUTOFF
from lightning_neurohealth.findings import Severity
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.history import History, spread
from lightning_neurohealth.reporting.planes import Planes
from lightning_neurohealth.reporting.shapes import REACH, SHAPE, learned_shapes
from lightning_neurohealth.reporting.spelling import printable, shorten

WINDOWS = 100
MEANS = 700_000  # numbers of layers in the page, about 1.4 MB of it
NEURONS = 800_000  # numbers of single neurons, as much again at worst
LOSSES = 2_000
LABELS = (36, 14)  # characters of a name beside a chart, on a wide screen and on a narrow one
FIRST = ("on_rate", "zero_rate", "saturation_rate", "slope", "gradient_flow", "gradient_rms", "update_ratio")
OF_NEURONS = ("on_rate", "saturation_rate", "gradient_flow")
SILENT = "on_rate"


def shown_windows(report: Record) -> History:
    """The windows of the page: 100, evenly spread, or fewer where there are very many layers."""
    size = len(report.layers) * max((len(layer) for layer in report.layers.values()), default=0)
    return History.of(report, min(WINDOWS, max(8, MEANS // max(size, 1))))


def page_data(history: History, planes: Planes) -> dict[str, Any]:
    """All that the page's script draws, in plain containers; for arrays, where they stand in ``planes``."""
    order = sorted(
        history.measures.keys() - {SHAPE}, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)
    )
    places = {name: place for place, name in enumerate(history.layers)}
    known = [name for name in OF_NEURONS if name in history.measures]
    cells = sum(len(history.measures[name]) for name in known) * len(history.reports)
    room = max(4, NEURONS // max(cells, 1))
    return {
        "reach": REACH,
        "windows": [[r.epoch, r.step] for r in history.reports],
        "layers": [_layer(history, name) for name in history.layers],
        "marks": _marks(history, places),
        "measures": {name: _measure(history, name, places, planes) for name in order},
        "neurons": {places[name]: _neurons(history, name, known, room, planes) for name in history.layers},
        "shapes": {places[name]: _shapes(history, name, planes) for name in history.measures.get(SHAPE, ())},
        "loss": _losses(history),
        "run": _run_findings(history, places),
    }


def _layer(history: History, name: str) -> dict[str, Any]:
    layer = history.layers[name]
    now = history.last.layers.get(name)
    return {
        "name": printable(name),
        "short": [shorten(printable(name), width) for width in LABELS],
        "neurons": layer.neurons,
        "function": layer.function,
        "severity": int(now.severity if now else Severity.HEALTHY),
        "findings": [
            [int(f.severity), f.condition, printable(f.message), [*(f.neurons or ())][:1000]]
            for f in history.last.of(name)
        ],
    }


def _marks(history: History, places: dict[str, int]) -> list[list[int]]:
    """Layer, severity, first and last window of each stretch of sickness."""
    marks = []
    for name, place in places.items():
        states = [r.layers[name].severity if name in r.layers else Severity.HEALTHY for r in history.reports]
        start = 0
        for severity, stretch in groupby(states):
            end = start + len(list(stretch)) - 1
            if severity:
                marks.append([place, int(severity), start, end])
            start = end + 1
    return marks


def _measure(history: History, name: str, places: dict[str, int], planes: Planes) -> dict[str, Any]:
    measure = all_measures().get(name)
    text = (inspect.getdoc(type(measure)) or "") if measure else ""
    paragraphs = [" ".join(p.split()).replace("``", "") for p in text.split("\n\n")]
    return {
        "layers": [places[layer] for layer in history.measures[name]],
        "means": planes.put(history.means(name)),
        "share": bool(measure and measure.percent),
        "about": " ".join(p for p in [*paragraphs, *_set(history, name)] if p and not p.startswith("Source")),
    }


def _set(history: History, name: str) -> list[str]:
    cutoff = history.last.saturation_cutoff
    return [f"In this report c is {cutoff:g}."] if name == "saturation_rate" and cutoff != CUTOFF else []


def _neurons(history: History, name: str, known: list[str], room: int, planes: Planes) -> dict[str, Any]:
    """Of a wide layer those that were silent in a window, before others."""
    found = {m: history.neurons(m, name) for m in known if name in history.measures[m]}
    found = {m: (windows, values) for m, (windows, values) in found.items() if windows}
    chosen = list(range(history.layers[name].neurons))
    if len(chosen) > room:
        silent = found[SILENT][1].eq(0).any(0).tolist() if SILENT in found else [False] * len(chosen)
        first, others = [n for n in chosen if silent[n]], [n for n in chosen if not silent[n]]
        some = [first[i] for i in spread(len(first), room)] if first else []
        left = room - len(some)
        chosen = sorted([*some, *((others[i] for i in spread(len(others), left)) if left and others else ())])
    return {
        "turns": _turns(found[SILENT][1]) if SILENT in found else None,
        "shown": chosen if len(chosen) < history.layers[name].neurons else None,
        "measures": {
            m: {"windows": windows, "values": planes.put(values[:, chosen].T, bits=7)}
            for m, (windows, values) in found.items()
        },
    }


def _shapes(history: History, name: str, planes: Planes) -> list[list[Any]]:
    """Step and numbers of the first and the last shape that the layer's activation had."""
    found = learned_shapes(history, name)
    ends = dict(found[:1] + found[-1:])
    return [[history.reports[place].step, planes.put(shape[None])] for place, shape in ends.items()]


def _turns(rates: Tensor) -> list[int]:
    """Neurons that are silent in the last window, and how often one fell silent and one fired again."""
    silent = rates.eq(0)
    before, after = silent[:-1], silent[1:]
    return [int(silent[-1].sum()), int((~before & after).sum()), int((before & ~after).sum())]


def _losses(history: History) -> dict[str, list[list[float]]]:
    """Curves of step and loss: training, and validation."""
    curves: dict[str, list[list[float]]] = {}
    for title, measure in (("training", "train_loss"), ("validation", "validation_loss")):
        points = []
        for report in history.reports:
            values = report.run[measure].flatten().tolist() if measure in report.run else []
            width = report.steps / max(len(values), 1)
            inside = 0.5 if measure == "train_loss" else 1.0  # an evaluation stands at the end of what it follows
            points += [[report.step - report.steps + (i + inside) * width, v] for i, v in enumerate(values)]
        if points:
            curves[title] = _thinned(points)
    return curves


def _thinned(points: list[list[float]]) -> list[list[float]]:
    """Means of neighbours, so that there are not too many points; a NaN stays."""
    size = math.ceil(len(points) / LOSSES)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [[float(f"{sum(column) / len(group):.5g}") for column in zip(*group, strict=True)] for group in groups]


def _run_findings(history: History, places: dict[str, int]) -> list[list[Any]]:
    """Severity, condition, first and last step of each stretch of what concerns the run as a whole."""
    stretches: list[list[Any]] = []
    lasting: dict[str, list[Any]] = {}
    for report in history.reports:
        before, lasting = lasting, {}
        for f in report.findings:
            if f.layer in places and f.condition != "non_finite":
                continue
            stretch = lasting.get(f.condition) or before.get(f.condition)
            if stretch is None:
                stretch = [0, f.condition, report.step - report.steps, 0]
                stretches.append(stretch)
            stretch[0], stretch[3] = max(stretch[0], int(f.severity)), report.step
            lasting[f.condition] = stretch
    return stretches
