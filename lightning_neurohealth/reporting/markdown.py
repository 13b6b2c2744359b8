"""The health table for a page that renders Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.columns import WORDS, columns, shown_layers
from lightning_neurohealth.reporting.groups import grouped
from lightning_neurohealth.reporting.wording import BRIEF, FULL, not_watched, recovered, rest, scope, told, verdict

NAMES = 200  # characters of the names of layers that share a finding


def markdown(report: Record) -> str:
    """The health table for a page that renders Markdown."""
    layers = shown_layers(report)
    table = columns(report, layers)
    lines = [f"**Neuron health** {scope(report)}: **{verdict(report)}**", ""]
    if layers:
        lines += [_row(table), _row("---" if title in WORDS else "---:" for title in table)]
        lines += [_row(map(_escaped, cells)) for cells in zip(*table.values(), strict=True)]
        lines.append("")
    if len(layers) < len(report.layers):
        lines += [f"… and {len(report.layers) - len(layers)} more layers", ""]
    groups = grouped(report.findings)
    for i, group in enumerate(groups[:BRIEF]):
        where, rows = told(group, NAMES, full=i < FULL)
        lines.append(f"- **{group.worst.severity.name} {_escaped(group.worst.condition)}** {_escaped(where)}")
        lines += [f"    - *{word}* {_escaped(text)}" for word, text in rows]
    if len(groups) > BRIEF:
        lines += ["", _escaped(rest(groups))]
    if report.recovered:
        lines += ["", _escaped(recovered(report))]
    if report.coverage.unwatched:
        lines += ["", _escaped(not_watched(report))]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()#+!|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
