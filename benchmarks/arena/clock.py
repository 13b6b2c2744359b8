"""The time that the callback spends in its own code, by a clock of its own: ratios near 1 drown in the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.delivery import Delivery
from lightning_neurohealth.hooks import Hook

EVENTS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class Clock:
    """Seconds inside, since it was last read."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def read(self) -> float:
        """Read and begin anew."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, timed where it is not called from another that is."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            begun = perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += perf_counter() - begun

        return timed


def places() -> list[tuple[type, str]]:
    """What of ours Lightning and torch call while a model trains."""
    return [*((NeuronHealth, event) for event in EVENTS), (Hook, "__call__"), (Delivery, "_gradient")]


@contextmanager
def clocked() -> Iterator[Clock]:
    """A clock on all that Lightning and torch call of ours."""
    clock = Clock()
    before = [getattr(owner, name) for owner, name in places()]
    for (owner, name), call in zip(places(), before, strict=True):
        setattr(owner, name, clock.around(call))
    try:
        yield clock
    finally:
        for (owner, name), call in zip(places(), before, strict=True):
            setattr(owner, name, call)
