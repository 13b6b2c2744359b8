"""Turns the verdicts of single windows into findings that last."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from lightning_neurohealth.across import Earlier
from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.life import Life, observe
from lightning_neurohealth.measuring import Numbers
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.repeats import one_of_each
from lightning_neurohealth.rules import LayerRule, Rule, Verdict
from lightning_neurohealth.rules.base import FACTS
from lightning_neurohealth.window import Past, Window

MEMORY = 50


@dataclass
class Streak:
    """How long a condition has shown, and how bad it was in the last of these windows."""

    windows: int = 0
    severities: tuple[Severity, ...] = ()

    def longer(self, severity: Severity, memory: int) -> Streak:
        """One window more."""
        return Streak(self.windows + 1, (*self.severities, severity)[-memory:])


class Diagnosis:
    """Lets every rule judge, and carries what they say from window to window."""

    def __init__(self, rules: list[Rule], not_judged: Mapping[str, str]) -> None:
        self.rules = list(rules)
        self.not_judged = dict(not_judged)
        self.findings: list[Finding] = []
        self._history: list[tuple[Window, Numbers]] = []
        self._streaks: dict[tuple[str, str | None], Streak] = {}
        self._since: dict[tuple[str, str | None], tuple[int, int]] = {}
        self.lives: dict[str, Life] = {}

    def judge(
        self,
        window: Window,
        numbers: Numbers,
        initial: Numbers,
        layers: dict[str, Layer],
        parameters: Parameters,
        silent: dict[str, str],
    ) -> tuple[list[Finding], list[Finding]]:
        """Findings of this window, the worst first, and those of the window before that have recovered."""
        outputs = [layer.neurons for layer in layers.values() if layer.output and layer.function.linear]
        window.progress.guesses = tuple(math.log(max(neurons, 2)) for neurons in outputs)
        frozen = {n for n, wanted in zip(parameters.names, parameters.trainable(), strict=True) if not wanted}
        observe(self.lives, layers, numbers.layers, initial.layers, window)
        facts = {
            "initial": initial.across,
            "lives": self.lives,
            "window": window,
            "layers": layers,
            "parameters": parameters,
            "silent": silent,
        }
        found: list[Finding] = []
        streaks: dict[tuple[str, str | None], Streak] = {}
        since: dict[tuple[str, str | None], tuple[int, int]] = {}
        firm: set[tuple[str, str | None]] = set()
        of_layers = {name: {**numbers.run, **numbers.of(layer)} for name, layer in layers.items()}
        for rule in list(self.rules):
            if window.seen < rule.grace:
                continue
            for layer, verdict in self._verdicts(rule, facts, numbers, of_layers):
                place = layer.name if layer else verdict.layer
                if layer is not None and layer.weight in frozen and verdict.severity > Severity.WARNING:
                    message = f"{verdict.message}; the layer is frozen, so that nothing can be lost or cured in it"
                    verdict = replace(verdict, severity=Severity.WARNING, message=message)
                # a depth rule may name another layer in each window: it is the same condition
                key = (rule.name, place if isinstance(rule, LayerRule) else None)
                now = (window.epoch, window.step)
                streak = self._streaks.get(key, Streak()).longer(verdict.severity, rule.windows)
                streaks[key] = max(streaks.get(key, streak), streak, key=lambda s: s.severities[-1])
                since[rule.name, place] = self._since.get((rule.name, place), now)
                finding = self._finding(rule, verdict, place, layers, streak, window)
                if finding:
                    found.append(finding)
                if verdict.immediate and verdict.certain:
                    firm.add((rule.name, place))
        self._streaks, self._since = streaks, since
        order = {name: i for i, name in enumerate(layers)}
        rates, began = self._rates(window), [since[f.condition, f.layer] for f in found]
        dated = [replace(f, since=of, learning_rate=rates.get(of)) for f, of in zip(found, began, strict=True)]
        found = one_of_each(dated, layers)
        if any(f.condition == "non_finite" for f in found):
            # what other rules see from then on is its wake, unless it was there before
            known = (
                {(f.condition, f.layer) for f in self.findings}
                | firm
                | {
                    ("non_finite", None),
                    ("exploding_gradients", None),
                }
            )
            found = [f for f in found if (f.condition, f.layer) in known or f.condition == "non_finite"]
        found.sort(key=lambda f: (-f.severity, order.get(f.layer or "", -1), f.condition))
        present = {(f.condition, f.layer) for f in found}
        recovered = [f for f in self.findings if (f.condition, f.layer) not in present]
        self.findings = found
        self._history.append((window, numbers))
        del self._history[1:-MEMORY]
        return found, recovered

    def _rates(self, window: Window) -> dict[tuple[int, int], float]:
        """Learning rates by epoch and step, of the windows that are remembered and of what began in forgotten ones."""
        rates = {f.since: f.learning_rate for f in self.findings if f.learning_rate is not None}
        windows = [*(w for w, _ in self._history), window]
        return rates | {(w.epoch, w.step): w.learning_rate for w in windows if not math.isnan(w.learning_rate)}

    def _verdicts(
        self, rule: Rule, facts: dict[str, Any], numbers: Numbers, of_layers: Mapping[str, Mapping[str, Any]]
    ) -> list[tuple[Layer | None, Verdict]]:
        try:
            if isinstance(rule, LayerRule):
                verdicts = []
                for layer in facts["layers"].values():
                    own = {"layer": layer, "past": self._past_of(rule, layer), "life": self.lives.get(layer.name)}
                    arguments = _arguments(rule, of_layers[layer.name], {**facts, **own})
                    verdict = None if arguments is None else rule.judge(**arguments)
                    if verdict is not None:
                        verdicts.append((layer, verdict))
                return verdicts
            past = Earlier(lambda: [Past(w, n.across) for w, n in self._history if _complete(rule, n.across)])
            arguments = _arguments(rule, numbers.across, {**facts, "past": past})
            return [] if arguments is None else [(None, verdict) for verdict in rule.judge(**arguments)]
        except Exception as error:
            self.rules.remove(rule)
            self.not_judged[rule.name] = f"failed: {error!r}"
            warnings.warn(
                f"NeuronHealth: the rule {rule.name} failed and is switched off: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
            return []

    def _past_of(self, rule: Rule, layer: Layer) -> Earlier:
        return Earlier(
            lambda: [Past(w, n.of(layer)) for w, n in self._history if _complete(rule, {**n.run, **n.of(layer)})]
        )

    def _finding(
        self, rule: Rule, verdict: Verdict, place: str | None, layers: dict[str, Layer], streak: Streak, window: Window
    ) -> Finding | None:
        severity, excuse = verdict.severity, ""
        if not verdict.immediate:
            severity, excuse = min(streak.severities), "it has been as bad for one window only"
        if streak.windows < rule.windows and not verdict.immediate:
            if not (window.last and window.index == 0):
                return None
            severity, excuse = min(severity, Severity.WARNING), "seen in one window so far"
        if rule.statistical and not (verdict.immediate or verdict.certain) and window.progress.learning:
            severity, excuse = min(severity, Severity.WARNING), "the network learns well all the same"
        layer = layers.get(place or "")
        return Finding(
            condition=rule.name,
            severity=Severity(severity),
            layer=place,
            activation=layer.activation if layer else None,
            neurons=verdict.neurons,
            value=verdict.value,
            threshold=verdict.threshold,
            message=verdict.message + (f"; {excuse}" if excuse and severity < verdict.severity else ""),
            cause=verdict.cause,
            remedy=verdict.remedy,
        )


def _arguments(rule: Rule, measures: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``judge`` asks for, or nothing where a measure that it needs does not exist here."""
    if not _complete(rule, measures):
        return None
    _, of_facts, of_measures = _asked(type(rule))
    found = {name: facts[name] for name in of_facts}
    if any(fact is None for fact in found.values()):
        return None
    for name in of_measures:
        value = measures.get(name)
        if value is not None:
            found[name] = value
    return found


def _complete(rule: Rule, measures: Mapping[str, Any]) -> bool:
    needed = _asked(type(rule))[0]
    return needed <= measures.keys() if isinstance(measures, dict) else all(name in measures for name in needed)


@cache
def _asked(kind: type[Rule]) -> tuple[frozenset[str], list[str], list[str]]:
    """Measures that a rule cannot do without; facts, and measures, that its ``judge`` names."""
    code = kind.judge.__code__
    asked = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    needed = frozenset(name for name, optional in kind.needs.items() if not optional)
    return needed, [name for name in asked if name in FACTS], [name for name in asked if name not in FACTS]
