"""How often something that takes long may be done while a model trains."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.01
"""Of the time, at most, goes into it."""


class Pace:
    """Rests after each turn: a fixed time, or as long as makes the turn one hundredth of the whole.

    Args:
        rest: Seconds between two turns at least.
        first: Seconds before the first one.
    """

    def __init__(self, rest: float, first: float = 0.0) -> None:
        self.rest = rest
        self._free = time.monotonic() + first

    @property
    def due(self) -> bool:
        """True if it has rested enough."""
        return time.monotonic() >= self._free

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What is done inside is timed."""
        start = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            self._free = end + max(self.rest, (end - start) / SHARE)
