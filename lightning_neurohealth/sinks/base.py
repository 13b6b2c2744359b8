"""What all sinks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from lightning_neurohealth.report import Report


@dataclass(frozen=True)
class Place:
    """Where a run lets its sinks write.

    Attributes:
        folder: ``neurohealth`` in the trainer's log directory, ``None`` where the run keeps no files.
        loggers: The trainer's loggers.
        echo: Prints plain text, or anything that rich can render, without breaking the progress bar.
        log: ``"summary"`` for about ten scalars a window, ``"layers"`` for each layer's measures too, ``"none"``.
    """

    folder: Path | None = None
    loggers: Sequence[Any] = field(default_factory=tuple)
    echo: Callable[[RenderableType], None] = print
    log: str = "summary"


class Sink(ABC):
    """Writes reports somewhere, on the first rank only. One that raises is named once and left out from then on."""

    def open(self, place: Place) -> None:
        """A run begins."""
        self.place = place

    @abstractmethod
    def write(self, report: Report, step: int) -> None:
        """A window has closed; ``step`` is where Lightning's own metrics of the same window lie."""

    def close(self, report: Report | None) -> None:  # noqa: B027  most sinks have nothing to end
        """The run has ended, well or not; ``report`` is its last."""
