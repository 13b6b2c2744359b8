"""The health table for a page that renders Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from lightning_neurohealth.report import Report
from lightning_neurohealth.reporting.table import (
    BRIEF,
    FULL,
    WORDS,
    columns,
    not_watched,
    place_of,
    reasons,
    recovered,
    rest,
    scope,
    shown_layers,
    verdict,
)


def markdown(report: Report) -> str:
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
    for i, finding in enumerate(report.findings[:BRIEF]):
        lines.append(f"- **{finding.severity.name} {_escaped(finding.condition)}** {_escaped(place_of(finding))}")
        lines += [f"    - *{word}* {_escaped(text)}" for word, text in reasons(finding) if i < FULL]
    if len(report.findings) > BRIEF:
        lines += ["", _escaped(rest(report))]
    if report.recovered:
        lines += ["", _escaped(recovered(report))]
    if report.coverage.unwatched:
        lines += ["", _escaped(not_watched(report))]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()#+!|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
