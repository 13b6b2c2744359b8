"""What a rule may say: a finding and its severity."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad a finding is; comparable, so that ``finding.severity >= Severity.SERIOUS`` reads as it should."""

    HEALTHY = 0
    WARNING = 1
    SERIOUS = 2
    CRITICAL = 3


@dataclass(frozen=True)
class Finding:
    """One diagnosis of one window.

    Attributes:
        condition: Name of the rule that spoke, e.g. ``"dead_neurons"``.
        severity: How bad it is.
        layer: Name of the layer concerned, ``None`` for the whole run.
        activation: Module path or function name of the layer's activation, ``None`` where there is none.
        neurons: Indices of the neurons concerned, ``None`` where the finding is not about single neurons.
        value: The number that the rule judged, in the unit that the message names.
        threshold: The bound that ``value`` has crossed.
        message: One sentence with the numbers.
        cause: What the evidence says about why.
        remedy: What to do, naming the layer.
        since: ``(epoch, step)`` at the end of the window in which the condition was first seen.
        learning_rate: The largest learning rate then, ``None`` where it is not known.
    """

    condition: str
    severity: Severity
    layer: str | None = None
    activation: str | None = None
    neurons: tuple[int, ...] | None = None
    value: float = 0.0
    threshold: float = 0.0
    message: str = ""
    cause: str = ""
    remedy: str = ""
    since: tuple[int, int] = (0, 0)
    learning_rate: float | None = None

    @property
    def where(self) -> str:
        """The layer's name, or ``"run"``."""
        return self.layer or "run"

    @property
    def beginning(self) -> str:
        """``"since epoch 2, step 120 (learning rate 0.001)"``."""
        rate = "" if self.learning_rate is None else f" (learning rate {self.learning_rate:.2g})"
        return f"since epoch {self.since[0]}, step {self.since[1]}{rate}"

    def to_dict(self) -> dict[str, Any]:
        """Plain containers only, fit for JSON."""
        return {
            "condition": self.condition,
            "severity": self.severity.name,
            "layer": self.layer,
            "activation": self.activation,
            "neurons": None if self.neurons is None else list(self.neurons),
            "value": self.value,
            "threshold": self.threshold,
            "message": self.message,
            "cause": self.cause,
            "remedy": self.remedy,
            "since": list(self.since),
            "learning_rate": self.learning_rate,
        }


class CriticalFindingError(RuntimeError):
    """Ends a run whose user asked for it with ``on_critical="raise"``."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(
            f"{finding.condition} in {finding.where}: {finding.message}. Cause: {finding.cause}. "
            f"Remedy: {finding.remedy}."
        )
        self.finding = finding
