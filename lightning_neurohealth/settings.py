"""What the user chooses, checked as soon as it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from lightning_neurohealth.activations.activation import CUTOFF
from lightning_neurohealth.measures import Measure, all_measures
from lightning_neurohealth.measures.saturation_rate import SaturationRate
from lightning_neurohealth.rules import Rule, all_rules

SETS = ("economy", "standard", "full")


@dataclass(frozen=True)
class Settings:
    """Choices of a :class:`~lightning_neurohealth.monitor.Monitor`; see there."""

    every_n_steps: int = 10
    window: int | Literal["epoch"] = "epoch"
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    measures: str | Sequence[str] = "standard"
    rules: Sequence[Rule] | None = None
    max_overhead: float | None = None
    max_rows: int | Literal["auto"] | None = "auto"
    fused: bool | Literal["auto"] = "auto"
    saturation_cutoff: float = CUTOFF
    chosen_measures: dict[str, Measure] = field(init=False)
    chosen_rules: list[Rule] = field(init=False)
    not_judged: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        whole_number("every_n_steps", self.every_n_steps)
        if self.window != "epoch":
            whole_number("window", self.window, 'or "epoch"')
        share("max_overhead", self.max_overhead)
        if self.max_rows not in (None, "auto"):
            whole_number("max_rows", self.max_rows, 'or "auto", or None')
        if not isinstance(self.fused, bool):
            one_of("fused", self.fused, (True, False, "auto"))
        cutoff("saturation_cutoff", self.saturation_cutoff)
        patterns("include", self.include)
        patterns("exclude", self.exclude)
        rules = checked_rules(self.rules)
        measures = checked_measures(self.measures)
        if self.rules is not None:
            for rule in rules:
                measures.update({name: all_measures()[name] for name, optional in rule.needs.items() if not optional})
        if not measures:
            raise ValueError(
                f"measures={self.measures!r}: nothing would be measured; name measures, a set ({', '.join(SETS)}), "
                "or rules that bring the measures they need"
            )
        missing = {r.name: [n for n, optional in r.needs.items() if not optional and n not in measures] for r in rules}
        object.__setattr__(self, "chosen_measures", {name: measures[name] for name in sorted(measures)})
        object.__setattr__(self, "chosen_rules", [r for r in rules if not missing[r.name]])
        object.__setattr__(
            self, "not_judged", {name: f"needs {', '.join(names)}" for name, names in missing.items() if names}
        )

    @property
    def shown_measures(self) -> dict[str, Measure]:
        """Measures that reports show by another cut-off than that for which rules are made."""
        if self.saturation_cutoff == CUTOFF or SaturationRate.name not in self.chosen_measures:
            return {}
        return {SaturationRate.name: SaturationRate.at(self.saturation_cutoff)}


def whole_number(name: str, value: object, otherwise: str = "") -> None:
    """Refuse anything but an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}: must be a whole number of at least 1 {otherwise}".strip())
    if value < 1:
        raise ValueError(f"{name}={value}: must be at least 1 {otherwise}".strip())


def share(name: str, value: object) -> None:
    """Refuse anything but a number between 0 and 1, both excluded, or nothing."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: must be None or a share between 0 and 1, e.g. 0.02")
    if not 0 < value < 1:
        raise ValueError(f"{name}={value}: must lie between 0 and 1, e.g. 0.02 for 2 % of the time")


def cutoff(name: str, value: object) -> None:
    """Refuse anything but a number between 0.5 and 1, both excluded: below, the two ends of a range would meet."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: must be a number between 0.5 and 1, e.g. 0.9")
    if not 0.5 < value < 1:
        raise ValueError(
            f"{name}={value}: must lie between 0.5 and 1, e.g. 0.9: from there on |tanh| counts as saturated"
        )


def one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse anything but one of some words."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, allowed))}")


def patterns(name: str, value: object) -> None:
    """Refuse anything but a list of strings."""
    if value is None:
        return
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) and v for v in value):
        raise TypeError(f'{name}={value!r}: must be a list of glob patterns over module names, e.g. ["encoder.*"]')


def checked_measures(value: str | Sequence[str]) -> dict[str, Measure]:
    """The measures of a set, or those named; a list may name sets too, as in ``["standard", "taylor"]``."""
    known = all_measures()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        sets = ", ".join(f'"{name}"' for name in SETS)
        raise TypeError(f'measures={value!r}: must be {sets}, or a list of names, e.g. ["on_rate", "slope"]')
    chosen: dict[str, Measure] = {}
    for name in names:
        if name in SETS:
            levels = SETS[: SETS.index(name) + 1]
            chosen.update({n: measure for n, measure in known.items() if measure.level in levels})
        elif name in known:
            chosen[name] = known[name]
        else:
            near = get_close_matches(name, [*known, *SETS], n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(known)}."
            raise ValueError(f"measures={value!r}: no measure is called {name!r}; {hint} Sets are {', '.join(SETS)}.")
    return chosen


def checked_rules(value: Sequence[Rule] | None) -> list[Rule]:
    """Every rule with its defaults, or those given."""
    if value is None:
        return [rule() for rule in all_rules().values()]
    if isinstance(value, (str, Rule)) or not isinstance(value, Sequence):
        raise TypeError(f"rules={value!r}: must be a list of rule objects, e.g. [DeadNeurons(serious=0.3)]")
    for rule in value:
        if not isinstance(rule, Rule):
            hint = "pass an object, with brackets behind its name" if isinstance(rule, type) else "pass rule objects"
            raise TypeError(f"rules: {rule!r} is not a rule; {hint}. Known are {', '.join(all_rules())}")
    names = [rule.name for rule in value]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"rules: {', '.join(sorted(twice))} given more than once")
    return list(value)
