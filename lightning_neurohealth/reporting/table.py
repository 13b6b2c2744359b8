"""A report as a table that a person reads."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.reporting.groups import FindingGroup, grouped

if TYPE_CHECKING:
    from lightning_neurohealth.report import LayerReport, Report

STYLES = {
    Severity.HEALTHY: "green",
    Severity.WARNING: "yellow",
    Severity.SERIOUS: "red",
    Severity.CRITICAL: "bold red",
}
MEASURES = {  # title: measure, and whether it is a share
    "on rate": ("on_rate", True),
    "zero": ("zero_rate", True),
    "saturated": ("saturation_rate", True),
    "spread": ("activation_std", False),
    "gradient": ("gradient_rms", False),
}
WORDS = ("layer", "activation", "health")  # columns of words; the others hold numbers
FIRST_TO_GO = ("spread", "gradient", "activation", "zero", "saturated", "on rate")
ROWS = 12
SICK = 20
FULL = 12  # findings with cause and remedy; where there are more, they repeat each other
BRIEF = 20  # findings at all; of the rest their number
NAME = 24  # characters of a layer's name in a list of those that share a finding
MISSED = 3
NARROW = 50
GAP = 2
USUAL = "dead_neurons,"  # room kept for a finding, so that the columns are the same in most windows
RULE = box.SIMPLE_HEAD
ASCII_RULE = box.Box(str(RULE).replace("─", "-"), ascii=True)
SPELLINGS = str.maketrans(
    {"…": "...", "×": "x", "·": "*", "±": "+/-", "≤": "<=", "≥": ">=", "≈": "~", "−": "-", "–": "-", "—": "-"}
    | {"→": "->", "∂": "d", "‖": "|", "²": "2", "ε": "eps", "’": "'"}
)


def health_table(report: Report) -> RenderableType:
    """Verdict, a row for each sick layer, the healthy ones in one line, and findings with cause and remedy.

    It shows the columns that the width has room for, and spells what the encoding lacks.
    """
    return HealthTable(report)


@dataclass(frozen=True)
class HealthTable:
    """What rich prints of a report."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        report, encoding = self.report, options.encoding
        yield Text.assemble(
            ("Neuron health ", "bold"), f"{scope(report)}: ", (verdict(report), STYLES[report.severity])
        )
        sick = sick_layers(report)
        if sick:
            yield _table(report, sick[:SICK], options)
        if len(sick) > SICK:
            yield Text(encodable(f"… and {len(sick) - SICK} more sick layers", encoding), STYLES[report.severity])
        healthy = [name for name, layer in report.layers.items() if not layer.severity]
        if healthy:
            yield Text(encodable(folded(f"{len(healthy)} healthy", healthy, options.max_width), encoding), "green")
        groups = grouped(report.findings)
        for i, group in enumerate(groups[:BRIEF]):
            yield group_text(group, options.max_width, encoding, full=i < FULL)
        if len(groups) > BRIEF:
            yield Text(encodable(rest(groups), encoding), STYLES[report.severity])
        if report.breakdown:
            yield Text(encodable(f"first to go: {printable(str(report.breakdown))}", encoding), "bold red")
        if report.recovered:
            yield Text(encodable(recovered(report), encoding), "green")
        if report.coverage.unwatched:
            yield Text(encodable(not_watched(report), encoding), "dim")


def scope(report: Report) -> str:
    """Which window, and how much of it was measured."""
    text = f"epoch {report.epoch}, step {report.step}, {report.measured} of {report.steps} steps measured"
    return text if report.overhead is None else f"{text}, {report.overhead:.1%} more time"


def score(report: Report) -> str:
    """``"1.00"`` only where nothing was found, ``"0.00"`` only where every layer is critical."""
    found = min(max(report.score, 0.01), 0.99) if 0 < report.score < 1 else report.score
    return f"{found:.2f}"


def verdict(report: Report) -> str:
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


def group_text(group: FindingGroup, width: int, encoding: str = "utf-8", full: bool = True) -> RenderableType:
    """One or several findings: what and where, and in full also why it is so and what to do."""
    title = f"{group.worst.severity.name} {group.worst.condition}"
    where, rows = told(group, width - len(title) - 1, full)
    what = Text.assemble((title, STYLES[group.worst.severity]), " ", encodable(where, encoding))
    grid = Table.grid(padding=(0, 1, 0, 0))
    for word, text in rows:
        grid.add_row(Text(f"  {word}", "bold"), Text(encodable(text, encoding)))
    return Group(what, grid) if grid.row_count else what


def recovered(report: Report) -> str:
    """What was found in the window before, and no more."""
    return "recovered: " + ", ".join(f"{f.condition} in {printable(f.where)}" for f in report.recovered)


def not_watched(report: Report) -> str:
    """Some of what was not seen, and where the rest is."""
    names = [printable(name) or "the model itself" for name in report.coverage.unwatched]
    more = f" and {len(names) - MISSED} more" if len(names) > MISSED else ""
    return f"not watched: {', '.join(names[:MISSED])}{more} (report.coverage says why)"


# Rows and columns


def sick_layers(report: Report) -> list[LayerReport]:
    """The layers with a finding, the worst first."""
    return sorted((layer for layer in report.layers.values() if layer.severity), key=lambda layer: -layer.severity)


def shown_layers(report: Report) -> list[LayerReport]:
    """Some layers with their numbers: the sick ones, and the first healthy ones behind them."""
    sick = sick_layers(report)[:SICK]
    healthy = [layer for layer in report.layers.values() if not layer.severity]
    return [*sick, *healthy[: max(ROWS - len(sick), 0)]]


def folded(title: str, names: list[str], width: int) -> str:
    """``"3 healthy: fc1, fc2, head"`` on one line, as far as it goes."""
    line = f"{title}: {', '.join(map(printable, names))}"
    if cell_len(line) <= width:
        return line
    shown = title
    for i, name in enumerate(names):
        longer = f"{shown}{', ' if i else ': '}{printable(name)}"
        if cell_len(longer) + len(", …") > width:
            return f"{shown}, …" if i else shown
        shown = longer
    return shown


def rest(groups: list[FindingGroup]) -> str:
    """How many findings are left out, and which."""
    conditions = Counter(finding.condition for group in groups[BRIEF:] for finding in group.findings)
    return f"… and {conditions.total()} more: " + ", ".join(f"{n} {name}" for name, n in conditions.most_common())


def columns(report: Report, layers: list[LayerReport]) -> dict[str, list[str]]:
    """Title to cells; a measure that none of the layers has gets no column."""
    names = {finding.layer: set[str]() for finding in report.findings}
    for finding in report.findings:
        names[finding.layer].add(finding.condition)
    numbers = {title: [cell(layer, measure, share) for layer in layers] for title, (measure, share) in MEASURES.items()}
    return {
        "layer": [printable(layer.name) for layer in layers],
        "activation": ["" if layer.function == "identity" else layer.function for layer in layers],
        "neurons": [str(layer.neurons) for layer in layers],
        **{title: cells for title, cells in numbers.items() if any(cells)},
        "health": [", ".join(sorted(names.get(layer.name, ()))) or "healthy" for layer in layers],
    }


def cell(layer: LayerReport, measure: str, share: bool) -> str:
    """A measure's mean over the layer's neurons, short; nothing where it says nothing."""
    value = layer.means.get(measure)
    if value is None or (share and layer.function == "identity"):
        return ""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else str(value)
    if not share:
        return f"{value:.2g}"
    if 0 < value < 0.005:
        return "<1%"  # 0% and 100% are kept for what never and what always happens
    return ">99%" if 0.995 <= value < 1 else f"{value:.0%}"


# Width


def _table(report: Report, layers: list[LayerReport], options: ConsoleOptions) -> Table:
    encoding = options.encoding
    cells = {title: [encodable(cell, encoding) for cell in column] for title, column in columns(report, layers).items()}
    if options.max_width < NARROW:
        cells = {title: cells[title] for title in ("layer", "neurons", "health")}
        cells["health"] = [cell.replace("_", " ") for cell in cells["health"]]  # so that long ones wrap
    widths = _fitting(cells, options.max_width)
    cells["layer"] = [shorten(name, widths["layer"], encodable("…", encoding)) for name in cells["layer"]]
    rule = ASCII_RULE if options.ascii_only else RULE
    table = Table(box=rule, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
    for title in widths:
        justify: JustifyMethod = "left" if title in WORDS else "right"
        table.add_column(title, justify=justify, no_wrap=title != "health", overflow="fold")
    for layer, *row in zip(layers, *(cells[title] for title in widths), strict=True):
        table.add_row(*map(Text, row[:-1]), Text(row[-1], STYLES[layer.severity]))
    return table


def _fitting(cells: dict[str, list[str]], width: int) -> dict[str, int]:
    """The columns that fit, each with its width; the name of the layer gets the room that is left."""
    widths = {title: _widest([title, *column]) for title, column in cells.items()}
    widths["layer"] = min(widths["layer"], max(10, width // 3))
    usual = "health" if width < NARROW else USUAL
    widths["health"] = _widest([usual, *(word for cell in cells["health"] for word in cell.split())])
    spare = width - sum(widths.values()) - GAP * (len(widths) - 1)
    for title in FIRST_TO_GO:
        if spare < 0 and title in widths:
            spare += widths.pop(title) + GAP
    widths["layer"] += max(spare, 0)
    return widths


def _widest(cells: list[str]) -> int:
    return max(map(cell_len, cells))


# Spelling


def printable(name: str) -> str:
    """The name on one line, whatever characters it holds."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def shorten(name: str, width: int, mark: str = "…") -> str:
    """The name with initials for its inner parts, then without them, then without its middle.

    Numbers and the end tell layers apart: they stay as long as they can.
    """
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if cell_len(".".join(parts)) <= width:
            break
        parts[i] = part if part.isdigit() else part[:1]
    short = ".".join(parts)
    if cell_len(short) <= width:
        return short
    fewer = list(parts)
    for i, part in enumerate(parts[:-1]):
        fewer[i] = part if part.isdigit() else "\0"
        less = re.sub(r"\.?(?:\0\.)+", lambda _: mark, ".".join(fewer))
        if cell_len(less) <= width:
            return less
    keep = max(width - len(mark), 2)
    head = keep // 3
    return short[:head] + mark + short[head - keep :]


def encodable(text: str, encoding: str) -> str:
    """The text in characters that the encoding has."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(SPELLINGS).encode(encoding, "replace").decode(encoding)
    return text
