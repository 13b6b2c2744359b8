"""How long a model is traced."""

from __future__ import annotations

from collections.abc import Set

PATIENCE = 100
"""Measured steps that are traced for the sake of calls that do not come again."""


class Patience:
    """Knows whether another step must be traced, to see calls that no table answers.

    Attributes:
        watchable: Names of the modules that are waited for.
        missed: Calls that came while nothing was traced, and that the table did not know.
    """

    def __init__(self, watchable: Set[str]) -> None:
        self.watchable = watchable
        self.missed: set[str] = set()
        self._awaited: set[str] = set()
        self._seen: set[str] = set()
        self._left = PATIENCE

    def waits(self, known: Set[str], traced: bool) -> bool:
        """A measured step is over; ``known`` are the calls that the table answers, ``traced`` says if it was traced."""
        self.missed -= known
        self._seen |= {call.split("#")[0] for call in known}
        if self.missed - self._awaited:
            self._left = PATIENCE  # a call that is new: a phase of training has begun
            self._awaited |= self.missed
        waiting = bool(self.missed) or not self.watchable <= self._seen
        if traced and waiting:
            self._left -= 1  # what is never called must not keep the tracing on
        return waiting and self._left > 0
