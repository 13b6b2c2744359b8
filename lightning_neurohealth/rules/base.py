"""What all rules share."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from lightning_neurohealth import life
from lightning_neurohealth.discovery import parameters_of, place_of, snake_case, unknown_name
from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.rules.thresholds import check_settings

FACTS: dict[str, tuple[str, ...]] = {
    "layer": (),
    "past": (),
    "window": (),
    "layers": (),
    "parameters": (),
    "silent": (),
    "initial": (),
    "life": life.MEASURES,
    "lives": (),
}
"""What ``judge`` may name beside measures, each with the measures that it is made of."""


@dataclass(frozen=True)
class Verdict:
    """What a rule says of one window, before it is known whether it lasts.

    Attributes:
        immediate: True if it counts at once: what cannot heal does not have to be seen twice.
        certain: True if a loss that falls does not excuse it: one that started at 1e9 always falls.
    """

    severity: Severity
    value: float
    threshold: float
    message: str
    cause: str
    remedy: str
    layer: str | None = None
    neurons: tuple[int, ...] | None = None
    immediate: bool = False
    certain: bool = False


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """Judges measures and gives a verdict or nothing. A file a rule; its name is the condition that it finds.

    The signature of ``judge`` is the list of what it needs: measures by name. One with a default is evidence that the
    rule can do without. Beside measures it may name ``window`` (:class:`~lightning_neurohealth.window.Window`).

    Attributes:
        windows: In how many windows in a row a condition must show before it is a finding.
        grace: Training steps at the start of the run that are not judged.
        statistical: True if a network that learns well is at most WARNING for this.
    """

    windows: int = 2
    grace: int = 10

    name: ClassVar[str]
    needs: ClassVar[dict[str, bool]]
    scope: ClassVar[Literal["layer", "run"]]
    statistical: ClassVar[bool] = True

    @abstractmethod
    def judge(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`LayerRule` and :class:`RunRule`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = snake_case(cls.__name__)
        if inspect.isabstract(cls) or "judge" not in vars(cls):
            return
        where = f"{place_of(cls)}: {cls.__name__}.judge"
        known = all_measures()
        named = parameters_of(cls.judge)
        asked = {name: optional for name, optional in named.items() if name not in FACTS}
        for name in asked:
            if name not in known:
                raise unknown_name(where, name, [*known, *FACTS])
        parts = (part for fact in named.keys() & FACTS.keys() for part in FACTS[fact])
        cls.needs = {**dict.fromkeys(sorted(parts), False), **asked}

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class LayerRule(Rule):
    """Judges one layer at a time.

    ``judge`` gets each measure as the layer's tensor (of a parameter's measure its weight's number), and may name
    ``layer`` (:class:`~lightning_neurohealth.layers.Layer`), ``life`` (its neurons'
    :class:`~lightning_neurohealth.life.Life`), ``lives`` (those of all layers by name) and ``past`` (a list of
    :class:`~lightning_neurohealth.window.Past`, the oldest first, without the present window).
    """

    scope: ClassVar[Literal["layer", "run"]] = "layer"

    @abstractmethod
    def judge(self, *args: Any, **kwargs: Any) -> Verdict | None:
        """The verdict on one layer, or nothing."""


@dataclass(frozen=True, kw_only=True)
class RunRule(Rule):
    """Judges the run as a whole.

    ``judge`` gets each measure as a mapping of names (layers in the order of execution, or parameters) to tensors, or
    as one tensor where it is of the run; and may name ``layers`` (name to layer), ``parameters``
    (:class:`~lightning_neurohealth.parameters.Parameters`), ``past`` (as before, with the
    measures of the run), ``silent`` (modules with weights that were never called) and ``initial`` (the measures of the
    first measured step, before any update).
    """

    scope: ClassVar[Literal["layer", "run"]] = "run"

    @abstractmethod
    def judge(self, *args: Any, **kwargs: Any) -> Iterable[Verdict]:
        """Any number of verdicts."""


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Severity by the share of a layer's neurons (S1: below 5 % healthy, from 50 % the model barely learns)."""

    warning: float = 0.05
    serious: float = 0.20
    critical: float = 0.50

    def severity(self, share: float) -> Severity:
        """The band that ``share`` lies in."""
        if share >= self.critical:
            return Severity.CRITICAL
        if share >= self.serious:
            return Severity.SERIOUS
        return Severity.WARNING if share >= self.warning else Severity.HEALTHY

    def threshold(self, severity: Severity) -> float:
        """The lower end of a band."""
        return {
            Severity.CRITICAL: self.critical,
            Severity.SERIOUS: self.serious,
            Severity.WARNING: self.warning,
        }.get(severity, 0.0)


def chosen(mask: Tensor) -> tuple[int, ...]:
    """Indices at which ``mask`` is true."""
    return tuple(mask.nonzero().flatten().tolist())


def fed_by(layer: Layer) -> str:
    """Whose weights make the pre-activation: ``"fc1"``, or ``"ih and hh"`` where it is a sum."""
    return layer.owner or " and ".join(sorted(layer.sources)) or f"what feeds {layer.name}"


def count(part: int, layer: Layer) -> str:
    """``"3 of 64 neurons of fc1"``, or of attention ``"1 of 8 heads of attn.heads"``."""
    noun = "head" if layer.channels else "neuron"
    return f"{part} of {layer.neurons} {noun}{'s' if layer.neurons != 1 else ''} of {layer.name}"
