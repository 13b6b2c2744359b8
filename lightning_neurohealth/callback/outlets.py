"""The sinks of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lightning_neurohealth.callback.faults import went_well
from lightning_neurohealth.report import Report
from lightning_neurohealth.sinks import Place, Sink


class Outlets:
    """Hands reports to those sinks that work; one that fails is named once, left out, and the training goes on."""

    def __init__(self, sinks: Iterable[Sink] = (), place: Place | None = None) -> None:
        self._open = list(sinks)
        if place is not None:
            self._tell(lambda sink: sink.open(place))

    def write(self, report: Report, step: int) -> None:
        """A window has closed at ``step``, as loggers count."""
        self._tell(lambda sink: sink.write(report, step))

    def close(self, last: Report | None) -> None:
        """The run has ended."""
        self._tell(lambda sink: sink.close(last))
        self._open = []

    def _tell(self, call: Callable[[Sink], None]) -> None:
        self._open = [sink for sink in self._open if went_well(type(sink).__name__, call, sink)]
