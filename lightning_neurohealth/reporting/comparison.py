"""Two runs side by side: which layers got better, and which got worse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import merged_order
from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.columns import MEASURES, cell
from lightning_neurohealth.reporting.spelling import encodable, folded, printable
from lightning_neurohealth.reporting.table import STYLES
from lightning_neurohealth.reporting.wording import verdict

RUN = "run"
SATURATION = "saturation_rate"
TIMES = 2.0
POINTS = 0.1


@dataclass(frozen=True)
class Comparison:
    """The last windows of two runs; printable, in the width and the characters that the terminal has.

    Attributes:
        before, after: The reports.
        names: What to call them.
    """

    before: Record
    after: Record
    names: tuple[str, str] = ("before", "after")

    @cached_property
    def layers(self) -> list[str]:
        """Layers that both runs have, in the order of execution, and ``"run"`` for what is of no layer."""
        both = [name for name in merged_order([list(self.before), list(self.after)]) if self._in_both(name)]
        return [RUN, *both]

    @property
    def worse(self) -> list[str]:
        """Those with a graver finding than before."""
        return [name for name in self.layers if severity(self.after, name) > severity(self.before, name)]

    @property
    def better(self) -> list[str]:
        """Those with a less grave one, or none any more."""
        return [name for name in self.layers if severity(self.after, name) < severity(self.before, name)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        def line(text: str, style: str = "") -> Text:
            return Text(encodable(text, options.encoding), style)

        for letter, name, report in zip("AB", self.names, (self.before, self.after), strict=True):
            yield line(f"{letter} {printable(name)}: step {report.step}, {verdict(report)}", STYLES[report.severity])
        for title, names in (("worse", self.worse), ("better", self.better)):
            if names:
                yield line(f"{title}:", "bold")
            for name in names:
                worst = max(severity(self.before, name), severity(self.after, name))
                yield line(f"  {self._change(name)}", STYLES[worst if title == "worse" else Severity.HEALTHY])
        same = [name for name in self.layers if name not in {*self.worse, *self.better}]
        sick = [name for name in same if severity(self.after, name)]
        for name in sick:
            yield line(
                f"as sick as before: {printable(name)}, {_state(self.after, name)}", STYLES[severity(self.after, name)]
            )
        healthy = [name for name in same if name not in sick and name != RUN]
        if healthy:
            yield line(folded("healthy in both", healthy, options.max_width), "green")
        if self._other_cutoffs:
            a, b = self.before.saturation_cutoff, self.after.saturation_cutoff
            yield line(f"saturation is not compared: it counts from {a:g} on in A and from {b:g} on in B", "dim")
        for letter, one, other in (("A", self.before, self.after), ("B", self.after, self.before)):
            alone = [name for name in one if name not in other]
            if alone:
                yield line(folded(f"only in {letter}", alone, options.max_width), "dim")

    @property
    def _other_cutoffs(self) -> bool:
        both = (self.before, self.after)
        measured = all(any(SATURATION in layer for layer in report.layers.values()) for report in both)
        return measured and self.before.saturation_cutoff != self.after.saturation_cutoff

    def _in_both(self, name: str) -> bool:
        return name in self.before and name in self.after

    def _change(self, name: str) -> str:
        text = f"{printable(name)}: {_state(self.before, name)} → {_state(self.after, name)}"
        numbers = ", ".join(self._numbers(name)) if self._in_both(name) else ""
        return f"{text} ({numbers})" if numbers else text

    def _numbers(self, name: str) -> Iterator[str]:
        """Measures of a layer that have moved: a share by 10 points, any other number by a factor of 2."""
        before, after = self.before[name], self.after[name]
        for title, (measure, share) in MEASURES.items():
            a, b = before.means.get(measure), after.means.get(measure)
            old, new = cell(before, measure, share), cell(after, measure, share)
            if a is None or b is None or not (old and new) or (measure == SATURATION and self._other_cutoffs):
                continue
            still = abs(a - b) < POINTS if share else max(abs(a), abs(b)) < TIMES * min(abs(a), abs(b))
            if not still and old != new:
                yield f"{title} {old} → {new}"


def severity(report: Record, name: str) -> Severity:
    """The worst finding on a layer, or on what is of no layer."""
    return max((f.severity for f in report.findings if _place(report, f.layer) == name), default=Severity.HEALTHY)


def _place(report: Record, layer: str | None) -> str:
    return layer if layer is not None and layer in report.layers else RUN


def _state(report: Record, name: str) -> str:
    found = [f for f in report.findings if _place(report, f.layer) == name]
    return ", ".join(f"{f.severity.name} {f.condition}" for f in found) or "healthy"
