"""Keeps the statistics of every layer, of the parameters and of the run, over steps and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth import ranks
from lightning_neurohealth.layers import Layer, Subject, merged_order
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.base import EMPTY, Kind, Partials, Statistic
from lightning_neurohealth.statistics.series import Series

KINDS: tuple[Kind, ...] = ("sum", "min", "max")
Book = dict[Signal, list[Statistic]]
Entry = tuple[Statistic, str, Tensor]
Pending = tuple[Subject, Statistic, Partials, Signal]
SNAPSHOTS = {
    Signal.WEIGHT,
    Signal.OUTGOING_WEIGHT,
    Signal.BIAS,
    Signal.SLOPE_PARAMETER,
    Signal.PARAMETER,
    Signal.PARAMETER_CHANGE,
}


class Ledger:
    """Collects only what the chosen measures need.

    A step is a transaction: what its taps bring is kept aside until ``commit``, and forgotten by ``discard`` if the
    step turns out not to count.
    """

    def __init__(self, measures: Iterable[Measure]) -> None:
        self.wanted: dict[Signal, list[type[Statistic]]] = {}
        for measure in measures:
            for signal, statistic in measure.needs.items():
                wanted = self.wanted.setdefault(signal, [])
                if statistic not in wanted:
                    wanted.append(statistic)
        self.books: dict[Subject, Book] = {}
        self.step = 0
        self._pending: list[Pending] = []
        self._agreed: list[Subject] = []
        self._merged: list[Subject] = []
        self._initial: dict[Kind, Tensor] = {}
        self._initial_agreed: list[Subject] = []
        self._twins: dict[Statistic, Statistic] = {}

    def open(self, subject: Subject, kind: str) -> Book:
        """The statistics of ``subject``, made when it is first seen."""
        if subject not in self.books:
            self.books[subject] = {
                signal: [
                    statistic(subject).to(subject.device) for statistic in statistics if statistic.applies(subject)
                ]
                for signal, statistics in self.wanted.items()
                if signal.subject == kind
            }
        return self.books[subject]

    def take(self, subject: Subject, signal: Signal, x: Tensor) -> None:
        """Reduce the rows of ``x``, shape ``[outer, neurons, inner]``; a batch without rows adds nothing."""
        if not x.numel():
            return
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        for statistic in self.open(subject, signal.subject).get(signal, ()):
            self._pending.append((subject, statistic, statistic.partials(x, self.step), signal))

    def record(self, subject: Subject, signal: Signal, x: Tensor) -> None:
        """Take ``x`` at once, whatever becomes of the step."""
        for statistic in self.open(subject, signal.subject).get(signal, ()):
            statistic.merge(statistic.partials(x, self.step))

    def discard(self, signals: set[Signal] | None = None) -> None:
        """Forget what was taken since the last commit, or the part of it that is of ``signals``."""
        self._pending = [] if signals is None else [entry for entry in self._pending if entry[3] not in signals]

    def fade(self) -> None:
        """Let exponential averages fade by one measured step, on every rank alike."""
        for decay, states in self._fading().items():
            torch._foreach_mul_(states, decay)

    def commit(self) -> None:
        """Add what was taken to the states, many layers in one call."""
        pending, self._pending = self._pending, []
        while pending:
            later: list[Pending] = []
            batch: dict[Kind, tuple[list[Tensor], list[Tensor]]] = {kind: ([], []) for kind in KINDS}
            rows: tuple[list[Tensor], list[int]] = ([], [])
            taken: set[Statistic] = set()
            for entry in pending:
                subject, statistic, partials, _ = entry
                if getattr(subject, "superseded", False):
                    if subject not in self._agreed and subject not in self._initial_agreed:
                        self.books.pop(subject, None)
                elif isinstance(statistic, Series):
                    statistic.merge(partials)
                elif statistic in taken:
                    later.append(entry)
                else:
                    taken.add(statistic)
                    for name, partial in partials.items():
                        states, values = rows if isinstance(partial, int) else batch[statistic.kinds[name]]
                        states.append(getattr(statistic, name))
                        values.append(partial)  # type: ignore[arg-type]
            if rows[0]:
                torch._foreach_add_(rows[0], rows[1])
            for kind, (states, partials_) in batch.items():
                if states:
                    _MERGE[kind](states, partials_)
            pending = later

    def advance(self, only: Signal | None = None) -> None:
        """A step is over, measured or not; with ``only``, an event of that signal, such as a validation."""
        for statistic in self._series:
            if only is None:
                statistic.advance()
        for statistic in self._events.get(only, ()) if only else ():
            statistic.advance()

    # Windows

    def agree(self) -> None:
        """Let all ranks keep the same layers in the same order; a rank that never saw one keeps it empty."""
        if ranks.world_size() > 1:
            layers = [s for s in self.books if isinstance(s, Layer) and not s.superseded]
            mine = {layer.name: layer for layer in layers}
            first: dict[str, dict[str, Any]] = {}
            seen = ranks.gather_objects([_facts(x) for x in sorted(layers, key=lambda layer: layer.order)])
            for facts in [fact for of_rank in seen for fact in of_rank]:
                first.setdefault(facts["name"], facts)
            order = merged_order([[facts["name"] for facts in of_rank] for of_rank in seen])
            for name, facts in first.items():
                if name not in mine:
                    device = layers[0].device if layers else torch.device("cpu")
                    mine[name] = Layer(**{**facts, "device": device})
                    self.open(mine[name], "layer")
                mine[name].order = order.index(name)
                for fact in ("output", "gate"):  # where ranks differ, the first that has the layer is right
                    setattr(mine[name], fact, facts[fact])
        live = [s for s in self.books if not getattr(s, "superseded", False)]
        self._agreed = sorted(live, key=lambda subject: (isinstance(subject, Layer), subject.name))

    def keep_initial(self) -> None:
        """Keep what was seen so far, the first measured step, beside what is to come."""
        self._initial = {kind: self._pack(entries) for kind, entries in self._entries().items() if entries}
        self._initial_agreed = list(self._agreed)

    def merged(self) -> tuple[dict[Subject, Book], dict[Subject, Book] | None]:
        """Copies of all statistics on the host, merged over ranks: at most one collective of each kind.

        The first call also gives what was kept of the first measured step.
        """
        if ranks.world_size() == 1:
            self.agree()
        strangers = others = len(self.books) - len(self._agreed)
        values: dict[Statistic, dict[str, Tensor]] = {}
        initial: dict[Statistic, dict[str, Tensor]] = {}
        started = self._entries(self._initial_agreed)
        for kind, entries in self._entries().items():
            if not entries:
                continue
            now, first = self._pack(entries), self._initial.get(kind, torch.empty(0))
            extra = torch.full((1,), float(strangers), dtype=now.dtype, device=now.device)
            packed = ranks.all_reduce(torch.cat([now, first.to(now), extra]), kind).cpu()
            _unpack(packed, entries, values)
            if first.numel():
                _unpack(packed[now.numel() :], started[kind], initial)
            if kind == "sum":
                others = int(packed[-1])
        twins = self._twins_of(self._agreed, values)
        self._merged = list(self._agreed)
        firsts = self._twins_of(self._initial_agreed, initial, fresh=True) if self._initial else None
        self._initial, self._initial_agreed = {}, []
        if others and ranks.world_size() > 1:
            self.agree()
        return twins, firsts

    def reset(self) -> None:
        """Begin a new window; exponential averages go on."""
        for statistic in self._statistics(self._merged):
            if isinstance(statistic, Series):
                statistic.length, statistic.stride = 0, 1
            if statistic.decay is None:
                _empty(statistic)

    def clear_snapshots(self) -> None:
        """Empty what holds a state of the weights, not a sum over steps."""
        for book in self.books.values():
            for signal in SNAPSHOTS & book.keys():
                for statistic in book[signal]:
                    _empty(statistic)

    # How

    def _statistics(self, subjects: Iterable[Subject]) -> Iterator[Statistic]:
        for subject in subjects:
            for statistics in self.books[subject].values():
                yield from statistics

    @property
    def _series(self) -> list[Series]:
        run = (b for s, b in self.books.items() if not isinstance(s, Layer))
        return [
            statistic
            for book in run
            for signal, statistics in book.items()
            for statistic in statistics
            if isinstance(statistic, Series) and signal is not Signal.VALIDATION_LOSS
        ]

    @property
    def _events(self) -> dict[Signal, list[Series]]:
        run = (b for s, b in self.books.items() if not isinstance(s, Layer))
        return {signal: [s for s in stats if isinstance(s, Series)] for book in run for signal, stats in book.items()}

    def _fading(self) -> dict[float, list[Tensor]]:
        states: dict[float, list[Tensor]] = {}
        for statistic in self._statistics(self.books):
            if statistic.decay is not None:
                states.setdefault(statistic.decay, []).extend(getattr(statistic, n) for n in statistic.kinds)
        return states

    def _entries(self, subjects: list[Subject] | None = None) -> dict[Kind, list[Entry]]:
        entries: dict[Kind, list[Entry]] = {kind: [] for kind in KINDS}
        for statistic in self._statistics(self._agreed if subjects is None else subjects):
            for name, kind in statistic.kinds.items():
                entries[kind].append((statistic, name, getattr(statistic, name)))
        return entries

    def _pack(self, entries: list[Entry]) -> Tensor:
        device = entries[0][2].device
        return torch.cat([tensor.reshape(-1).to(device) for _, _, tensor in entries])

    def _twins_of(
        self, subjects: list[Subject], values: dict[Statistic, dict[str, Tensor]], fresh: bool = False
    ) -> dict[Subject, Book]:
        return {
            subject: {
                signal: [self._twin(subject, statistic, values[statistic], fresh) for statistic in statistics]
                for signal, statistics in self.books[subject].items()
            }
            for subject in subjects
        }

    def _twin(self, subject: Subject, statistic: Statistic, states: dict[str, Tensor], fresh: bool) -> Statistic:
        twin = None if fresh else self._twins.get(statistic)
        if twin is None:
            twin = type(statistic)(subject)
            if not fresh:
                self._twins[statistic] = twin
        twin.load(states)
        return twin


def _unpack(packed: Tensor, entries: list[Entry], values: dict[Statistic, dict[str, Tensor]]) -> None:
    start = 0
    for statistic, name, tensor in entries:
        values.setdefault(statistic, {})[name] = packed[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()


def _empty(statistic: Statistic) -> None:
    for name, kind in statistic.kinds.items():
        getattr(statistic, name).fill_(EMPTY[kind])


def _facts(layer: Layer) -> dict[str, Any]:
    return {name: value for name, value in vars(layer).items() if name not in ("device", "superseded")}


_MERGE: dict[Kind, Any] = {
    "sum": torch._foreach_add_,
    "min": torch._foreach_minimum_,
    "max": torch._foreach_maximum_,
}
