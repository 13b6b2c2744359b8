"""The page of every measure and rule, made from their classes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import takewhile
from typing import Any, get_args

from lightning_neurohealth.measures import Measure, all_measures
from lightning_neurohealth.measures.base import Level
from lightning_neurohealth.rules import Rule, all_rules
from lightning_neurohealth.signals import OF_ELEMENTS, STANDING, Signal
from lightning_neurohealth.statistics import Statistic
from lightning_neurohealth.statistics.cosines import Cosines
from lightning_neurohealth.statistics.covariance import Covariance
from lightning_neurohealth.statistics.histogram import Histogram
from lightning_neurohealth.statistics.twins import Twins

COSTS = {
    **dict.fromkeys(STANDING, "once a window"),
    Signal.PARAMETER_CHANGE: "sampled weights, once a window",
    Signal.ACTIVATION: "a pass over activations",
    Signal.PREACTIVATION: "a pass over pre-activations",
    Signal.ACTIVATION_GRADIENT: "a pass over their gradients",
    Signal.ACTIVATION_TIMES_GRADIENT: "a product, activations kept for it",
    Signal.RIGHT_ACTIVATION: "a mean a sample, one wait for the device a batch",
    Signal.WEIGHT_GRADIENT: "a pass over gradients of weights",
    Signal.NEURON_GRADIENT: "a pass over gradients of weights",
    Signal.WEIGHT_UPDATE: "a copy of the weights",
    Signal.PARAMETER_GRADIENT: "a norm of each gradient",
    **dict.fromkeys(OF_ELEMENTS, "a few passes over each gradient"),
    Signal.GLOBAL_GRADIENT: "a norm of each gradient",
    Signal.GRADIENT_SAMPLE: "sampled gradients",
    Signal.UPDATE: "sampled weights, copied",
    Signal.LOSS: "a number a step",
    Signal.VALIDATION_LOSS: "a number an evaluation",
}
"""What reading a signal takes; where nothing else is said, at each measured step."""
DEAR: dict[type[Statistic], str] = {
    Covariance: "a matrix product over sampled rows",
    Cosines: "all pairs of neurons",
    Twins: "a few passes",
    Histogram: "an index an element",
}
"""What statistics take beyond a pass."""
FLOWING_BACK = ("gradient", "update", "change")
SECTIONS = ("What it finds", "Why it hurts", "Remedies", "Sources")
BANDS = {name: f"Where {name.upper()} begins." for name in ("warning", "serious", "critical")}
HEAD = """# Catalogue

Every measure and every rule, made from their classes by `python -m lightning_neurohealth catalogue`. Do not edit.

Notation: z pre-activation, a activation, g = ∂L/∂a, W and b weight and bias of the layer, w_i the incoming weights of
neuron i. Rows are batch × time × space. Each number is of one window. Sets cost more from `economy` over `standard`,
which has what every rule needs, to `full`; what reads the same tensor shares a pass over it, and steps that are not
measured run without hooks. S0 to S4 are the documents that the project began with.
"""


def catalogue() -> str:
    """The page, in Markdown."""
    measures, rules = all_measures().values(), [rule() for rule in all_rules().values()]
    parts = [
        HEAD,
        "## Rules\n",
        _table(("condition", "judges", "from the set", "needs data", "needs gradients"), map(_rule_row, rules)),
    ]
    parts += [_rule(rule) for rule in rules]
    columns = ("measure", "of", "set", "needs data", "needs gradients", "cost", "source")
    parts += ["## Measures\n", _table(columns, map(_measure_row, measures))]
    parts += [_measure(measure) for measure in measures]
    return "\n".join(parts).rstrip() + "\n"


# Measures


def _measure_row(measure: Measure) -> tuple[str, ...]:
    of = {"layer": "a layer or its neurons", "parameters": "a parameter", "run": "the run"}[measure.subject]
    answers = _answers(_needs_data(measure), _needs_gradients(measure))
    return _link(_title(measure.name)), of, measure.level, *answers, _cost(measure), _source(_paragraphs(type(measure)))


def _title(measure: str) -> str:
    """A measure's name, told from that of a rule where both are called the same."""
    return f"{measure} (measure)" if measure in all_rules() else measure


def _cost(measure: Measure) -> str:
    costs = [COSTS[signal] for signal in measure.needs if signal in COSTS]
    return "; ".join(dict.fromkeys([*costs, *(DEAR[kind] for kind in measure.needs.values() if kind in DEAR)]))


def _source(paragraphs: list[str]) -> str:
    named = next((p for p in paragraphs if re.match(r"Sources?:", p)), "")
    return re.sub(r"^Sources?: ", "", named).rstrip(".")


def _measure(measure: Measure) -> str:
    paragraphs = _paragraphs(type(measure))
    reading = [p for p in paragraphs[1:] if not re.match(r"Sources?:", p)]
    reads = ", ".join(f"{signal.value} ({statistic.__name__})" for signal, statistic in measure.needs.items())
    return _section(
        _title(measure.name),
        _first_line(type(measure)),
        [
            ("Formula", paragraphs[0]),
            *(("How to read", text) for text in reading[:1]),
            *(("", text) for text in reading[1:]),
            ("Reads", f"{reads}; in the set `{measure.level}`"),
            ("Source", _source(paragraphs)),
        ],
    )


def _needs_data(measure: Measure) -> bool:
    return not measure.needs.keys() <= STANDING


def _needs_gradients(measure: Measure) -> bool:
    return any(word in signal.value for signal in measure.needs for word in FLOWING_BACK)


# Rules


def _rule_row(rule: Rule) -> tuple[str, ...]:
    needed = [all_measures()[name] for name, optional in rule.needs.items() if not optional]
    judges = "each layer" if rule.scope == "layer" else "the run"
    least = max((measure.level for measure in needed), key=get_args(Level).index)
    answers = _answers(any(map(_needs_data, needed)), any(map(_needs_gradients, needed)))
    return _link(rule.name), judges, least, *answers


def _rule(rule: Rule) -> str:
    paragraphs = _paragraphs(type(rule))
    found = {name: _start(paragraphs, name) for name in SECTIONS}
    documented = {**BANDS, **_attributes(type(rule))}
    settings = [(f"`{f.name}`", _value(getattr(rule, f.name)), documented.get(f.name, "")) for f in fields(rule)]
    needs = [
        f"{_link(_title(name))}{' (if measured)' if optional else ''}" for name, optional in sorted(rule.needs.items())
    ]
    excuse = (
        "at most WARNING, unless beyond doubt"
        if rule.statistical
        else "as severe as otherwise, but for what is said above"
    )
    return (
        _section(
            rule.name,
            _first_line(type(rule)),
            [
                *((name, text) for name, text in found.items()),
                ("Needs", ", ".join(needs)),
                ("While the network learns well", excuse),
            ],
        )
        + "\n"
        + _table(("setting", "default", "meaning"), settings)
    )


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _start(paragraphs: list[str], name: str) -> str:
    pattern = re.compile(name.rstrip("s") + "s?: ")
    return next((pattern.sub("", p, count=1) for p in paragraphs if pattern.match(p)), "")


def _attributes(kind: type) -> dict[str, str]:
    """Documented attributes of a class and its bases, its own first."""
    found: dict[str, str] = {}
    for cls in kind.__mro__:
        text = inspect.cleandoc(vars(cls).get("__doc__") or "").partition("Attributes:\n")[2]
        for entry in re.split(r"\n(?=    \S)", "\n" + text)[1:]:
            names, _, meaning = " ".join(entry.split()).partition(": ")
            for name in names.split(", "):
                found.setdefault(name, _markdown(meaning))
    return found


# Text


def _paragraphs(kind: type) -> list[str]:
    text = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    return [_markdown(" ".join(p.split())) for p in takewhile(lambda p: not p.startswith("Attributes:"), text)]


def _first_line(kind: type) -> str:
    module = inspect.getmodule(kind)
    return _markdown((getattr(module, "__doc__", None) or "").strip().split("\n\n")[0].replace("\n", " "))


def _markdown(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]*)`", lambda m: f"`{m[1].rpartition('.')[2]}`", text)
    return text.replace("``", "`").replace("\\|", "|")


def _section(name: str, what: str, entries: Iterable[tuple[str, Any]]) -> str:
    lines: Iterator[str] = (f"**{title}**: {text}\n" if title else f"{text}\n" for title, text in entries if text)
    return f"### {name}\n\n{what}\n\n" + "\n".join(lines)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines) + "\n"


def _link(title: str) -> str:
    return f"[{title}](#{re.sub('[^a-z_ ]', '', title).replace(' ', '-')})"


def _answers(*values: bool) -> list[str]:
    return ["yes" if value else "no" for value in values]
