"""A run's reports as one JSON document, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_neurohealth.activations.activation import CUTOFF
from lightning_neurohealth.breakdown import Breakdown
from lightning_neurohealth.coverage import Coverage
from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.packing import pack, plain, unpack
from lightning_neurohealth.record import LayerReport, Record, worst_by_layer
from lightning_neurohealth.reporting.history import History, spread
from lightning_neurohealth.reporting.lives import packed_lives, unpacked_lives
from lightning_neurohealth.reporting.shapes import SHAPE, learned_shapes
from lightning_neurohealth.reporting.thin_layers import Schema, Table, ThinLayers

NAME = "report.json"
SCHEMA = 1
KIND = "lightning-neurohealth report"
OF_NEURONS = ("on_rate", "saturation_rate", "gradient_flow")
"""Measures of which each neuron's numbers are kept in the windows before the last, which keeps all."""
NUMBERS = 1_000_000
"""At most so many of them, about 5 MB; of more, some windows between the first and the last are left out."""

SHAPES = 20
"""Windows of which a learned shape is kept, evenly spread; some 60 numbers each."""


R = TypeVar("R", bound=Record)


class SchemaError(ValueError):
    """A document that this version cannot read."""


def to_document(report: Record) -> dict[str, Any]:
    """Every window up to ``report``, in plain containers fit for JSON.

    ``windows`` say where, when and what was found; ``measures`` hold the means of each layer's neurons, ``[windows,
    layers]``; ``neurons`` each neuron's numbers, ``[windows, neurons]``, and the shapes that activations have learned,
    ``[windows, places]``; ``last`` all numbers of the last window;
    ``life`` the life-cycles of the neurons that have ever been silent.
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
        }
        | {SHAPE: {name: rows for name in history.measures.get(SHAPE, ()) if (rows := _shapes(history, name))}},
        "last": {name: {m: pack(v) for m, v in layer.items()} for name, layer in report.layers.items()},
        "life": packed_lives(history),
        "parameters": {name: {m: pack(v) for m, v in table.items()} for name, table in report.parameters.items()},
    }


def from_document(document: Any, kind: type[R]) -> R:
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
        return _read(document, kind)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SchemaError(f"is damaged: {type(error).__name__}: {error}") from error


def load(path: Path, kind: type[R]) -> R:
    """See :meth:`~lightning_neurohealth.report.Report.load`."""
    file = _file(path)
    try:
        return from_document(json.loads(file.read_text(encoding="utf-8")), kind)
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


def _window(report: Record, places: Mapping[str, int]) -> dict[str, Any]:
    layers = [places[name] for name in report.layers]
    run = {name: pack(v) for name, v in report.run.items()}
    return plain({**report.facts(), "last": report.last, "layers": layers, "run": run})


def _rows(history: History, measure: str, name: str, kept: set[int]) -> dict[str, Any] | None:
    places, values = history.neurons(measure, name)
    rows = [row for row, place in enumerate(places) if place in kept]
    return {"windows": [places[row] for row in rows], "values": pack(values[rows])} if rows else None


def _shapes(history: History, name: str) -> dict[str, Any] | None:
    found = learned_shapes(history, name)
    some = [found[i] for i in spread(len(found), SHAPES)]
    return {"windows": [w for w, _ in some], "values": pack(torch.stack([v for _, v in some]))} if some else None


def _read(document: Mapping[str, Any], kind: type[R]) -> R:
    windows = document["windows"]
    table = [LayerReport(**facts, measures={}) for facts in document["layers"]]
    bare = {layer.name: layer for layer in table}
    schema, means = _means(document["measures"], table, len(windows))
    schemas: dict[tuple[str, ...], Schema] = {}
    neurons = _neurons(document["neurons"], table)
    lives = unpacked_lives(document.get("life", {}), {layer.name: layer.neurons for layer in table})
    report: R | None = None
    for place, (window, numbers) in enumerate(zip(windows, means, strict=True)):
        names = tuple(table[layer].name for layer in window["layers"])
        findings = [_finding(facts) for facts in window["findings"]]
        sick = {name: worst for name, worst in worst_by_layer(findings).items() if name is not None}
        means_now = Table(schemas.setdefault(names, schema.only(names)), numbers)
        layers: Mapping[str, LayerReport] = ThinLayers(means_now, bare, sick)
        if place in neurons or place in lives:
            layers = {
                name: replace(
                    layer,
                    measures={**layer.measures, **neurons.get(place, {}).get(name, {})},
                    life=lives.get(place, {}).get(name),
                )
                for name, layer in layers.items()
            }
        report = _report(window, layers, findings, report, kind)
    if report is None:
        raise ValueError("there is no window")
    layers = {
        name: replace(layer, measures={m: unpack(v) for m, v in document["last"][name].items()})
        for name, layer in report.layers.items()
    }
    parameters = {name: {m: unpack(v) for m, v in row.items()} for name, row in document["parameters"].items()}
    return replace(report, layers=layers, parameters=parameters)


def _means(entries: Mapping[str, Any], table: Sequence[LayerReport], windows: int) -> tuple[Schema, Tensor]:
    """Of each layer the measures it has in any window, and their means, ``[windows, numbers]``."""
    known: list[dict[str, Tensor]] = [{} for _ in table]
    for measure, entry in entries.items():
        for place, column in zip(entry["layers"], unpack(entry["means"]).unbind(1), strict=True):
            known[place][measure] = column
    schema = Schema.of({layer.name: tuple(row) for layer, row in zip(table, known, strict=True)})
    columns = [column for row in known for column in row.values()]
    return schema, torch.stack(columns, 1) if columns else torch.zeros(windows, 0)


def _neurons(entries: Mapping[str, Any], table: Sequence[LayerReport]) -> dict[int, dict[str, dict[str, Tensor]]]:
    """Window to layer to measure to the numbers of its neurons."""
    found: dict[int, dict[str, dict[str, Tensor]]] = {}
    for measure, by_layer in entries.items():
        for layer in table:
            entry = by_layer.get(layer.name, {"windows": [], "values": pack(torch.zeros(0))})
            for window, values in zip(entry["windows"], unpack(entry["values"]), strict=True):
                found.setdefault(window, {}).setdefault(layer.name, {})[measure] = values
    return found


def _report(
    window: Mapping[str, Any],
    layers: Mapping[str, LayerReport],
    findings: list[Finding],
    previous: R | None,
    kind: type[R],
) -> R:
    seen = window["coverage"]
    return kind(
        **{name: window[name] for name in ("index", "epoch", "step", "steps", "measured", "last")},
        layers=layers,
        run={name: unpack(packed).double() for name, packed in window["run"].items()},
        findings=findings,
        recovered=[_finding(facts) for facts in window["recovered"]],
        coverage=Coverage(
            tuple(seen["watched"]),
            seen["missed"],
            float(seen["parameters"]),
            frozenset(seen.get("unfed", ())),
            seen.get("shares", {}),
            seen.get("elsewhere", {}),
        ),
        not_judged=window["not_judged"],
        every_n_steps=window.get("every_n_steps", 1),
        saturation_cutoff=window.get("saturation_cutoff", CUTOFF),
        overhead=window.get("overhead"),
        breakdown=Breakdown.from_dict(window["breakdown"]) if "breakdown" in window else None,
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
