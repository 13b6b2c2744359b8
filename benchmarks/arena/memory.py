"""Bytes of tensors that are alive because of the callback, at the peak of a measured step."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.arena.clock import places
from benchmarks.arena.models import Contender
from benchmarks.arena.turns import Player, race
from lightning_neurohealth import NeuronHealth

ENDLESS = 1 << 40


class Held(TorchDispatchMode):
    """Counts the memory of every tensor that is made while it is on, until the last name of it is gone.

    Attributes:
        bytes: Alive now.
        peak: The most since it was last set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._names: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {_place(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                place = _place(tensor)
                if self._names[place] or place not in known:  # a view of what is not ours is not ours
                    self._add(tensor, place, tensor.untyped_storage().nbytes())
        return out

    def _add(self, tensor: Tensor, place: int, size: int) -> None:
        self.bytes += size * (not self._names[place])
        self._names[place] += 1
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(tensor, self._drop, place, size)

    def _drop(self, place: int, size: int) -> None:
        self._names[place] -= 1
        self.bytes -= size * (not self._names[place])


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def held() -> Iterator[Held]:
    """On while our code runs."""
    mode = Held()
    before = [getattr(owner, name) for owner, name in places()]
    for (owner, name), call in zip(places(), before, strict=True):
        setattr(owner, name, _within(mode, call))
    try:
        yield mode
    finally:
        for (owner, name), call in zip(places(), before, strict=True):
            setattr(owner, name, call)


def _within(mode: Held, call: Callable[..., Any]) -> Callable[..., Any]:
    def within(*args: Any, **kwargs: Any) -> Any:
        with mode:
            return call(*args, **kwargs)

    return within


def memory_table(contenders: list[Contender], measures: str = "standard") -> Table:
    """Kilobytes of the states, and of the most that a measured step holds beside them."""
    table = Table(title=f"Memory, {measures}", title_justify="left")
    for column in ("", "states", "a measured step beside them, at most"):
        table.add_column(column, justify="right" if column else "left")
    for contender in contenders:
        states, extra = memory(contender, measures)
        table.add_row(contender.text, f"{states / 1e3:,.0f} kB", f"{extra / 1e3:,.0f} kB")
    return table


def memory(contender: Contender, measures: str) -> tuple[int, int]:
    """Bytes of the states, and of the most that a measured step holds beside what the last one has left."""
    health = NeuronHealth(1, window=ENDLESS, measures=measures, sinks=[])
    readings: list[tuple[int, int]] = []
    with held() as mode:

        def after() -> None:
            monitor = health._monitor
            kept = list(monitor.ledger.statistics()) if monitor is not None else []
            states = sum(getattr(statistic, name).nbytes for statistic in kept for name in statistic.kinds)
            readings.append((states, mode.peak - mode.bytes))
            mode.peak = mode.bytes

        race(contender, {"ours": Player(lambda: {"callbacks": [health]})}, rounds=4, warm_up=3, after=after)
    states, _ = readings[-1]
    return states, max(extra for _, extra in readings[-3:])
