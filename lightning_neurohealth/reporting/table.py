"""A report as a table that a person reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.record import LayerReport, Record
from lightning_neurohealth.reporting.columns import SICK, WORDS, columns, sick_layers
from lightning_neurohealth.reporting.groups import FindingGroup, grouped
from lightning_neurohealth.reporting.spelling import encodable, folded, printable, shorten
from lightning_neurohealth.reporting.wording import BRIEF, FULL, not_watched, recovered, rest, scope, told, verdict

STYLES = {
    Severity.HEALTHY: "green",
    Severity.WARNING: "yellow",
    Severity.SERIOUS: "red",
    Severity.CRITICAL: "bold red",
}
FIRST_TO_GO = ("spread", "gradient", "activation", "zero", "saturated", "on rate")
NARROW = 50
GAP = 2
USUAL = "dead_neurons,"  # room kept for a finding, so that the columns are the same in most windows
RULE = box.SIMPLE_HEAD
ASCII_RULE = box.Box(str(RULE).replace("─", "-"), ascii=True)


@dataclass(frozen=True)
class HealthTable:
    """What rich prints of a report: verdict, a row for each sick layer, the healthy ones in one line, and findings.

    It shows the columns that the width has room for, and spells what the encoding lacks.
    """

    report: Record

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


def group_text(group: FindingGroup, width: int, encoding: str = "utf-8", full: bool = True) -> RenderableType:
    """One or several findings: what and where, and in full also why it is so and what to do."""
    title = f"{group.worst.severity.name} {group.worst.condition}"
    where, rows = told(group, width - len(title) - 1, full)
    what = Text.assemble((title, STYLES[group.worst.severity]), " ", encodable(where, encoding))
    grid = Table.grid(padding=(0, 1, 0, 0))
    for word, text in rows:
        grid.add_row(Text(f"  {word}", "bold"), Text(encodable(text, encoding)))
    return Group(what, grid) if grid.row_count else what


def _table(report: Record, layers: list[LayerReport], options: ConsoleOptions) -> Table:
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
