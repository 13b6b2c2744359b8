"""What a diagnosis remembers of earlier windows, to go on with it after a restart."""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

from lightning_neurohealth.diagnosis import Diagnosis
from lightning_neurohealth.measuring import Numbers
from lightning_neurohealth.rules import Rule

SETTINGS = ("rules", "not_judged")


def remembered(diagnosis: Diagnosis) -> dict[str, Any]:
    """All that later windows depend on; of earlier ones only the measures that some rule may look back on."""
    asked = looked_back_on(diagnosis.rules)
    known = {name: value for name, value in vars(diagnosis).items() if name not in SETTINGS}
    known["_history"] = [(window, _only(numbers, asked)) for window, numbers in diagnosis._history]
    return known


def recall(diagnosis: Diagnosis, known: Mapping[str, Any], places: Container[str]) -> None:
    """Take up what was remembered of the rules of now and of ``places``, which are layers, modules and parameters."""
    rules = {rule.name for rule in diagnosis.rules}
    for name in vars(diagnosis).keys() & known.keys() - set(SETTINGS):
        setattr(diagnosis, name, known[name])

    def of_now(rule: str, place: str | None) -> bool:
        return rule in rules and (place is None or place in places)

    diagnosis.findings = [f for f in diagnosis.findings if of_now(f.condition, f.layer)]
    diagnosis._streaks = {key: streak for key, streak in diagnosis._streaks.items() if of_now(*key)}
    diagnosis._since = {key: since for key, since in diagnosis._since.items() if of_now(*key)}
    diagnosis.lives = {name: life for name, life in diagnosis.lives.items() if name in places}
    diagnosis._history = [(window, fitting(numbers, places)) for window, numbers in diagnosis._history]


def fitting(numbers: Numbers, places: Container[str]) -> Numbers:
    """The numbers of those layers and parameters that are among ``places``, and of the run."""
    return replace(
        numbers,
        layers={name: measures for name, measures in numbers.layers.items() if name in places},
        parameters={name: measures for name, measures in numbers.parameters.items() if name in places},
    )


def looked_back_on(rules: Iterable[Rule]) -> set[str]:
    """Measures that some rule needs and may want from earlier windows too."""
    backward = [rule for rule in rules if "past" in inspect.signature(type(rule).judge).parameters]
    return {measure for rule in backward for measure in rule.needs}


def _only(numbers: Numbers, asked: Container[str]) -> Numbers:
    def some(measures: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in measures.items() if name in asked}

    return replace(
        numbers,
        layers={name: some(measures) for name, measures in numbers.layers.items()},
        parameters={name: some(measures) for name, measures in numbers.parameters.items()},
        run=some(numbers.run),
    )
