"""Does it find what is sick, where it is, and does it leave the healthy alone? ``make truth`` runs the whole zoo.

Every specimen is a small training whose fault, or health, is measured in plain torch by the zoo itself. Exit code 1 if
fewer than 95 % of the faults are found, fewer than 90 % of those that have a place are put there, a healthy network
gets a finding at SERIOUS or worse, or a specimen is not what it says it is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.zoo import healthy, sick_flow, sick_learning, sick_neurons
from benchmarks.zoo.training import SPECIMENS, Seen, Specimen, WrongSpecimenError
from lightning_neurohealth import Finding, Severity

RECALL, LOCALISATION = 0.95, 0.90
ROOMS = (sick_neurons, sick_flow, sick_learning, healthy)


@dataclass(frozen=True)
class Outcome:
    """What was said of one specimen.

    Attributes:
        findings: Of a sick one those of its condition, in the last report that has any; of a healthy one all alarms.
        windows: Windows from the beginning of the fault to the first such report, 1 for the first of them.
        placed: True if the first of the findings names the right layer, ``None`` where the fault has no place.
        seconds: How long the training took.
        wrong: Why it is not what it says it is, as the zoo has measured; such a one proves nothing.
    """

    specimen: Specimen
    findings: tuple[Finding, ...]
    windows: int | None
    placed: bool | None
    seconds: float
    wrong: str = ""

    @property
    def right(self) -> bool:
        """True if all that should be said was said, and nothing else."""
        return not self.wrong and bool(self.findings) == bool(self.specimen.condition) and self.placed is not False


def judge(specimen: Specimen) -> Outcome:
    """Train one specimen, from the same seed whatever ran before."""
    begun = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            seen, wrong = specimen.run(), ""
        except WrongSpecimenError as error:
            seen, wrong = Seen([]), str(error)
    seconds = time.perf_counter() - begun
    if specimen.condition is None:
        alarms = [f for report in seen.reports for f in report.findings if f.severity >= Severity.SERIOUS]
        return Outcome(specimen, tuple(alarms), None, None, seconds, wrong)
    hits = [(report.index, tuple(_of(report.findings, specimen))) for report in seen.reports]
    hits = [(index, found) for index, found in hits if found]
    if not hits:
        return Outcome(specimen, (), None, None, seconds, wrong)
    last = hits[-1][1]
    return Outcome(specimen, last, hits[0][0] - seen.first + 1, _placed(last, seen), seconds)


def _of(findings: Iterable[Finding], specimen: Specimen) -> list[Finding]:
    return [f for f in findings if f.condition == specimen.condition and f.severity >= specimen.severity]


def _placed(findings: tuple[Finding, ...], seen: Seen) -> bool | None:
    return findings[0].layer in seen.layers if seen.layers else None


@dataclass(frozen=True)
class Score:
    """The zoo as a whole."""

    outcomes: tuple[Outcome, ...]

    @property
    def recall(self) -> float:
        """Share of the sick ones whose condition was found."""
        return _share(bool(o.findings) for o in self.outcomes if o.specimen.condition)

    @property
    def localisation(self) -> float:
        """Share of the findings with a place that name the right one."""
        return _share(o.placed for o in self.outcomes if o.placed is not None)

    @property
    def alarms(self) -> int:
        """Healthy ones with a finding at SERIOUS or worse."""
        return sum(bool(o.findings) for o in self.outcomes if not o.specimen.condition)

    @property
    def windows(self) -> float:
        """Mean time to detection, in windows."""
        found = [o.windows for o in self.outcomes if o.windows is not None]
        return sum(found) / len(found) if found else float("nan")

    @property
    def passed(self) -> bool:
        """True if all is above the bar."""
        enough = self.recall >= RECALL and self.localisation >= LOCALISATION
        return enough and not self.alarms and not any(o.wrong for o in self.outcomes)


def _share(truths: Iterable[bool | None]) -> float:
    values = [bool(truth) for truth in truths]
    return sum(values) / len(values) if values else 1.0


def table(score: Score) -> Table:
    """One line a condition, the healthy ones last."""
    made = Table(title="Truth")
    for name in ("condition", "networks", "found", "right layer", "windows to detection", "seconds"):
        made.add_column(name, no_wrap=True)
    for condition in sorted({o.specimen.condition or "" for o in score.outcomes}, key=lambda name: (not name, name)):
        group = [o for o in score.outcomes if (o.specimen.condition or "") == condition]
        placed = [o.placed for o in group if o.placed is not None]
        made.add_row(
            condition or "healthy: alarms",
            str(len(group)),
            str(sum(bool(o.findings) for o in group)),
            f"{sum(placed)} of {len(placed)}" if placed else "",
            ", ".join(str(o.windows) for o in group if o.windows is not None),
            f"{sum(o.seconds for o in group):.1f}",
        )
    return made


def faults(score: Score) -> list[str]:
    """A sentence for each specimen of which not all that should be said was said, or more."""
    return [f"{outcome.specimen.name}: {_fault(outcome)}" for outcome in score.outcomes if not outcome.right]


def _fault(outcome: Outcome) -> str:
    if outcome.wrong:
        return f"the zoo is wrong, it does not hold that {outcome.wrong}"
    said = {f"{f.severity.name} {f.condition} in {f.where} ({f.message})" for f in outcome.findings}
    if not said:
        return f"{outcome.specimen.condition} was not found"
    return f"{'in the wrong place' if outcome.specimen.condition else 'false alarm'}: {'; '.join(sorted(said))}"


def run(names: Sequence[str] = (), quick: bool = False) -> Score:
    """Train and judge the whole zoo, its quick part, or the specimens with these names."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other longer than these small networks take
    try:
        chosen = [s for s in SPECIMENS if (s.quick or not quick) and (not names or s.name in names)]
        return Score(tuple(map(judge, chosen)))
    finally:
        torch.set_num_threads(threads)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; gives the exit code."""
    parser = argparse.ArgumentParser(description="Judges the rules by trainings whose truth is known.")
    parser.add_argument("names", nargs="*", help="only these specimens")
    parser.add_argument("--quick", action="store_true", help="only the few that the tests run")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - {s.name for s in SPECIMENS}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(s.name for s in SPECIMENS)}")
    score = run(given.names, given.quick)
    console = Console()
    console.print(table(score))
    for fault in faults(score):
        console.print(f"- {fault}", highlight=False, markup=False)
    console.print(
        f"recall {score.recall:.0%} (at least {RECALL:.0%}), localisation {score.localisation:.0%} (at least "
        f"{LOCALISATION:.0%}), false alarms {score.alarms} (none), {score.windows:.1f} windows to detection"
    )
    return 0 if score.passed else 1


if __name__ == "__main__":
    sys.exit(main())
