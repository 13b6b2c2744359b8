"""What is said of a report, wherever it is shown."""

from __future__ import annotations

from collections import Counter

from lightning_neurohealth.activations.activation import CUTOFF
from lightning_neurohealth.findings import Finding
from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.groups import FindingGroup
from lightning_neurohealth.reporting.spelling import folded, printable, shorten

FULL = 12  # findings with cause and remedy; where there are more, they repeat each other
BRIEF = 20  # findings at all; of the rest their number
NAME = 24  # characters of a layer's name in a list of those that share a finding
MISSED = 3


def scope(report: Record) -> str:
    """Which window, and how much of it was measured."""
    text = f"epoch {report.epoch}, step {report.step}, {report.measured} of {report.steps} steps measured"
    text += other_cutoff(report)
    return text if report.overhead is None else f"{text}, {report.overhead:.1%} more time"


def other_cutoff(report: Record) -> str:
    """From where on activations count as saturated, if the user has said so."""
    cutoff = report.saturation_cutoff
    return "" if cutoff == CUTOFF else f", saturated from {cutoff:g} on"


def score(report: Record) -> str:
    """``"1.00"`` only where nothing was found, ``"0.00"`` only where every layer is critical."""
    found = min(max(report.score, 0.01), 0.99) if 0 < report.score < 1 else report.score
    return f"{found:.2f}"


def verdict(report: Record) -> str:
    """``"healthy"`` or what was found, in a few words."""
    if not report.findings:
        return "healthy"
    number = len(report.findings)
    return f"{number} finding{'s' if number > 1 else ''}, worst {report.severity.name} (score {score(report)})"


def place_of(finding: Finding) -> str:
    """Where, since when and what, behind the name of the condition."""
    return f"in {printable(finding.where)}, {finding.beginning}: {finding.message}"


def reasons(finding: Finding) -> list[tuple[str, str]]:
    """Why it is so and what to do, where the rule knows."""
    return [(word, text) for word, text in (("why", finding.cause), ("do", finding.remedy)) if text]


def told(group: FindingGroup, room: int, full: bool = True) -> tuple[str, list[tuple[str, str]]]:
    """Where and what, behind the name of the condition, in ``room`` characters where it is a list of layers; and more
    lines: which is the worst of several, and in full why it is so and what to do."""
    worst = group.worst
    rows = reasons(worst) if full else []
    if not group.together:
        return place_of(worst), rows
    names = [shorten(printable(finding.where), NAME) for finding in group.findings]
    where = folded(f"in {group.count}", names, room)
    return where, [("worst", place_of(worst).removeprefix("in ")), *rows]


def rest(groups: list[FindingGroup]) -> str:
    """How many findings are left out, and which."""
    conditions = Counter(finding.condition for group in groups[BRIEF:] for finding in group.findings)
    return f"… and {conditions.total()} more: " + ", ".join(f"{n} {name}" for name, n in conditions.most_common())


def recovered(report: Record) -> str:
    """What was found in the window before, and no more."""
    return "recovered: " + ", ".join(f"{f.condition} in {printable(f.where)}" for f in report.recovered)


def not_watched(report: Record) -> str:
    """Some of what was not seen, and where the rest is."""
    names = [printable(name) or "the model itself" for name in report.coverage.unwatched]
    more = f" and {len(names) - MISSED} more" if len(names) > MISSED else ""
    return f"not watched: {', '.join(names[:MISSED])}{more} (report.coverage says why)"
