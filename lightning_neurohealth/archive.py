"""A run's reports as one JSON document, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_neurohealth.coverage import Coverage
from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.history import History, spread
from lightning_neurohealth.packing import pack, plain, unpack
from lightning_neurohealth.report import LayerReport, Report, worst_by_layer

NAME = "report.json"
SCHEMA = 1
KIND = "lightning-neurohealth report"
OF_NEURONS = ("on_rate", "saturation_rate", "gradient_flow")
"""Measures of which each neuron's numbers are kept in the windows before the last, which keeps all."""
NUMBERS = 1_000_000
"""At most so many of them, about 5 MB; of more, some windows between the first and the last are left out."""


class SchemaError(ValueError):
    """A document that this version cannot read."""


def to_document(report: Report) -> dict[str, Any]:
    """Every window up to ``report``, in plain containers fit for JSON.

    ``windows`` say where, when and what was found; ``measures`` hold the means of each layer's neurons, ``[windows,
    layers]``; ``neurons`` each neuron's numbers, ``[windows, neurons]``; ``last`` all numbers of the last window.
    """
    history = History.of(report)
    layers = history.layers
    places = {name: place for place, name in enumerate(layers)}
    known = [measure for measure in OF_NEURONS if measure in history.measures]
    a_window = sum(layers[name].neurons for measure in known for name in history.measures[measure])
    kept = set(spread(len(history.reports), max(2, NUMBERS // max(a_window, 1))))
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "layers": [
            {
                "name": layer.name,
                "neurons": layer.neurons,
                "activation": layer.activation,
                "function": layer.function,
                "output": layer.output,
            }
            for layer in layers.values()
        ],
        "windows": [_window(r, places) for r in history.reports],
        "measures": {
            measure: {"layers": [places[name] for name in names], "means": pack(history.means(measure))}
            for measure, names in history.measures.items()
        },
        "neurons": {
            measure: {name: rows for name in history.measures[measure] if (rows := _rows(history, measure, name, kept))}
            for measure in known
        },
        "last": {name: {m: pack(v) for m, v in layer.items()} for name, layer in report.layers.items()},
        "parameters": {name: {m: pack(v) for m, v in table.items()} for name, table in report.parameters.items()},
    }


def from_document(document: Any) -> Report:
    """The last report, and by its ``previous`` those before.

    Raises:
        SchemaError: It is none of ours, of a newer version, or damaged.
    """
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise SchemaError("is no report of lightning-neurohealth")
    schema = document.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise SchemaError(
            f"has schema {schema!r}, and this version of lightning-neurohealth reads up to {SCHEMA}; "
            "pip install --upgrade lightning-neurohealth"
        )
    try:
        return _read(document)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SchemaError(f"is damaged: {type(error).__name__}: {error}") from error


def load(path: Path) -> Report:
    """See :meth:`~lightning_neurohealth.report.Report.load`."""
    file = _file(path)
    try:
        return from_document(json.loads(file.read_text(encoding="utf-8")))
    except SchemaError as error:
        raise SchemaError(f"{file} {error}") from error
    except ValueError as error:  # json's own, and the decoder's
        raise SchemaError(f"{file} is no JSON: {error}") from error


def _file(path: Path) -> Path:
    """The file of a run's report, wherever the run keeps it."""
    for file in (path, path / "neurohealth" / NAME, path / NAME):
        if file.is_file():
            return file
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    below = [file.parent.parent for depth in ("*", "*/*") for file in sorted(path.glob(f"{depth}/neurohealth/{NAME}"))]
    hint = (
        f"there is one in {', '.join(map(str, below[:5]))}"
        if below
        else "give the log directory of a run; it is written when the first window closes"
    )
    raise FileNotFoundError(f"{path} has no neurohealth/{NAME}; {hint}")


def _window(report: Report, places: Mapping[str, int]) -> dict[str, Any]:
    facts = report.to_dict()
    del facts["schema"]
    layers = [places[name] for name in report.layers]
    return plain(
        {**facts, "last": report.last, "layers": layers, "run": {name: pack(v) for name, v in report.run.items()}}
    )


def _rows(history: History, measure: str, name: str, kept: set[int]) -> dict[str, Any] | None:
    places, values = history.neurons(measure, name)
    rows = [row for row, place in enumerate(places) if place in kept]
    return {"windows": [places[row] for row in rows], "values": pack(values[rows])} if rows else None


def _read(document: Mapping[str, Any]) -> Report:
    table: Sequence[Mapping[str, Any]] = document["layers"]
    windows: Sequence[Mapping[str, Any]] = document["windows"]
    numbers: list[dict[int, dict[str, Tensor]]] = [{place: {} for place in window["layers"]} for window in windows]
    for measure, entry in document["measures"].items():
        for means, found in zip(unpack(entry["means"]), numbers, strict=True):
            for mean, place in zip(means.unbind(), entry["layers"], strict=True):
                if place in found:
                    found[place][measure] = mean
    for measure, by_layer in document["neurons"].items():
        for place, layer in enumerate(table):
            if layer["name"] in by_layer:
                entry = by_layer[layer["name"]]
                for row, values in zip(entry["windows"], unpack(entry["values"]), strict=True):
                    numbers[row][place][measure] = values
    report: Report | None = None
    for window, found in zip(windows, numbers, strict=True):
        report = _report(window, table, found, report)
    if report is None:
        raise ValueError("there is no window")
    layers = {
        name: replace(layer, measures={m: unpack(v) for m, v in document["last"][name].items()})
        for name, layer in report.layers.items()
    }
    parameters = {name: {m: unpack(v) for m, v in row.items()} for name, row in document["parameters"].items()}
    return replace(report, layers=layers, parameters=parameters)


def _report(
    window: Mapping[str, Any],
    table: Sequence[Mapping[str, Any]],
    numbers: Mapping[int, Mapping[str, Tensor]],
    previous: Report | None,
) -> Report:
    findings = [_finding(facts) for facts in window["findings"]]
    worst = worst_by_layer(findings)
    layers = {}
    for place in window["layers"]:
        layer = table[place]
        severity = worst.get(layer["name"], Severity.HEALTHY)
        layers[layer["name"]] = LayerReport(**layer, measures=numbers[place], severity=severity)
    seen = window["coverage"]
    return Report(
        **{name: window[name] for name in ("index", "epoch", "step", "steps", "measured", "last")},
        layers=layers,
        run={name: unpack(packed).double() for name, packed in window["run"].items()},
        findings=findings,
        recovered=[_finding(facts) for facts in window["recovered"]],
        coverage=Coverage(
            tuple(seen["watched"]), seen["missed"], float(seen["parameters"]), frozenset(seen.get("unfed", ()))
        ),
        not_judged=window["not_judged"],
        previous=previous,
    )


def _finding(facts: Mapping[str, Any]) -> Finding:
    neurons = facts["neurons"]
    return Finding(
        **{
            **facts,
            "severity": Severity[facts["severity"]],
            "neurons": None if neurons is None else tuple(neurons),
            "value": float(facts["value"]),
            "threshold": float(facts["threshold"]),
            "since": tuple(facts["since"]),
        }
    )
