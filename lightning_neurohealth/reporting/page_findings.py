"""The findings as the page tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.groups import FindingGroup, grouped
from lightning_neurohealth.reporting.history import History
from lightning_neurohealth.reporting.spelling import printable
from lightning_neurohealth.reporting.wording import reasons

FULL = 12  # findings, or groups of them, that need no click
REASONED = 4  # of them those with cause and remedy: a long list is read for its places first
GONE = 200
SIGNS = {Severity.HEALTHY: "✓", Severity.WARNING: "●", Severity.SERIOUS: "▲", Severity.CRITICAL: "✖"}


def findings(report: Record, layers: list[str]) -> str:
    """The list of findings; ``layers`` in the order of the page's own numbers for them, to which findings lead."""
    if not report.findings:
        return "<p>Nothing was found in the last window.</p>"
    targets = {
        name: f'<button type="button" class="go" data-layer="{place}">{text(name)}</button>'
        for place, name in enumerate(layers)
    }
    if "train_loss" in report.run:
        targets["run"] = '<a href="#training">run</a>'
    items = [_item(group, targets, i < REASONED) for i, group in enumerate(grouped(report.findings))]
    more = f"<details><summary>{len(items) - FULL} more</summary><ol>{joined(items[FULL:])}</ol></details>"
    return f"<ol>{joined(items[:FULL])}</ol>" + (more if len(items) > FULL else "")


def _item(group: FindingGroup, targets: Mapping[str, str], reasoned: bool) -> str:
    worst = group.worst
    if group.together:
        where, what, each = group.count, _terms([("worst", _told(worst, targets))]), _each(group, targets)
    else:
        what = f'<p class="dim">{worst.beginning}</p>' + _terms([("what", text(worst.message))])
        where, each = _target(worst, targets), ""
    why = _terms((word, text(reason)) for word, reason in reasons(worst))
    if why and not reasoned:
        why = f"<details><summary>why, and what to do</summary>{why}</details>"
    return (
        f'<li class="finding {worst.severity.name.lower()}"><h3>{sign(worst.severity)} '
        f"{text(worst.condition.replace('_', ' '))} in {where}</h3>{what}{why}{each}</li>"
    )


def _each(group: FindingGroup, targets: Mapping[str, str]) -> str:
    items = joined(
        f'<li><span class="{f.severity.name.lower()}">{sign(f.severity)}</span> {_told(f, targets)}</li>'
        for f in group.findings
    )
    return f"<details><summary>all {len(group.findings)} layers</summary><ul>{items}</ul></details>"


def _told(finding: Finding, targets: Mapping[str, str]) -> str:
    since = f'<span class="dim">{finding.beginning}</span>'
    return f"{_target(finding, targets)} {since}<br>{text(finding.message)}"


def _target(finding: Finding, targets: Mapping[str, str]) -> str:
    return targets.get(finding.where) or text(finding.where)


def _terms(rows: Iterable[tuple[str, str]]) -> str:
    items = joined(f"<dt>{word.capitalize()}</dt><dd>{html}</dd>" for word, html in rows)
    return f"<dl>{items}</dl>" if items else ""


def gone(history: History) -> str:
    """What was found in an earlier window and is not in the last."""
    seen: dict[tuple[str, str], tuple[Severity, int, int]] = {}
    for report in history.reports:
        for finding in report.findings:
            worst, first, _ = seen.get((finding.condition, finding.where), (finding.severity, report.step, 0))
            seen[finding.condition, finding.where] = max(worst, finding.severity), first, report.step
    for finding in history.last.findings:
        seen.pop((finding.condition, finding.where), None)
    items = joined(
        f"<li>{sign(worst)} {text(condition.replace('_', ' '))} in {text(where)}, steps {first} to {last}</li>"
        for (condition, where), (worst, first, last) in list(seen.items())[:GONE]
    )
    return f"<details><summary>{len(seen)} found earlier and gone</summary><ul>{items}</ul></details>" if seen else ""


def sign(severity: Severity) -> str:
    """Its mark and its name."""
    return f'<span class="sign" aria-hidden="true">{SIGNS[severity]}</span> {severity.name}'


def text(plain: str) -> str:
    """Any text as HTML."""
    return escape(printable(plain))


def joined(parts: Iterable[str]) -> str:
    """One behind the other."""
    return "".join(parts)
