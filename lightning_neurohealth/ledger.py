"""Keeps the statistics of every layer, of the parameters and of the run, over steps and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.merging import Merged, Merger
from lightning_neurohealth.sharding import Part
from lightning_neurohealth.shelf import Book, Shelf, States, empty
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.spreading import spread
from lightning_neurohealth.statistics.base import Partials, Statistic
from lightning_neurohealth.statistics.fused import Fuse, Fusion
from lightning_neurohealth.statistics.rows import Rows
from lightning_neurohealth.statistics.series import Series
from lightning_neurohealth.tally import Entry, Tally

__all__ = ["Book", "Ledger"]

Pending = tuple[Subject, Statistic, Partials, Signal]
SNAPSHOTS = {
    Signal.WEIGHT,
    Signal.OUTGOING_WEIGHT,
    Signal.BIAS,
    Signal.SLOPE_PARAMETER,
    Signal.LEARNED_SLOPE,
    Signal.MIXTURE_ENTROPY,
    Signal.MIXTURE,
    Signal.PARAMETER,
    Signal.PARAMETER_CHANGE,
}
MANY = 64
"""Numbers that wait at most until they are added."""


class Ledger(Shelf):
    """Collects only what the chosen measures need.

    A step is a transaction: what its taps bring is kept aside until ``commit``, and forgotten by ``discard`` if the
    step turns out not to count.

    Attributes:
        step: Number of the current step, for statistics that remember when.
        first_owed: True until what was kept of the first measured step has been merged.
        apart: Statistics that compare neurons and have met a layer whose neurons are on several ranks.
        sums: The numbers that were given to the last ``merged``, each summed over ranks.
    """

    def __init__(self, measures: Iterable[Measure], fused: Fuse = False) -> None:
        super().__init__(measures)
        self._fusion = Fusion(fused)
        self.step = 0
        self.first_owed = True
        self.sums: list[float] = []
        self.apart: set[type[Statistic]] = set()
        self._pending: list[Pending] = []
        self._waiting: list[tuple[Tensor, int, int]] = []
        self._waiting_for: list[Statistic] = []
        self._in_step: dict[tuple[Signal | None, int], list[Series]] = {}
        self._tally = Tally()
        self._merger = Merger(self)

    def take(self, subject: Subject, signal: Signal, x: Tensor, part: Part | None = None) -> None:
        """Reduce the rows of ``x``, shape ``[outer, neurons, inner]``; a batch without rows adds nothing.

        With ``part``, those are neurons of a layer that is split over ranks.
        """
        if part is not None:
            self._take_part(subject, signal, x, part)
            return
        if not x.numel():
            return
        rows = Rows(x, signal is Signal.ACTIVATION and isinstance(subject, Layer) and subject.function.is_nonnegative)
        statistics = self.open(subject, signal.subject).get(signal, [])
        for statistic, partials in zip(statistics, self._fusion.partials(statistics, rows, self.step), strict=True):
            self._pending.append((subject, statistic, partials, signal))

    def _take_part(self, subject: Subject, signal: Signal, x: Tensor, part: Part) -> None:
        book = self.open(subject, signal.subject)  # on ranks without a neuron too: all pack the same
        if x.shape[0] * x.shape[2]:
            for statistic in book.get(signal, ()):
                if statistic.together:
                    self.apart.add(type(statistic))
                else:
                    partials = spread(statistic, statistic.partials(x, self.step), part)
                    self._pending.append((subject, statistic, partials, signal))

    def record(self, subject: Subject, signal: Signal, x: Tensor) -> None:
        """Take the one number ``x`` at once, whatever becomes of the step."""
        for statistic in self.open(subject, signal.subject).get(signal, ()):
            statistic.merge(statistic.partials(x, self.step))

    def record_later(self, subject: Subject, signal: Signal, x: Tensor) -> None:
        """Take the one number ``x`` of every step, always of the same signal; many are added in one call."""
        self._waiting_for = self.open(subject, signal.subject).get(signal, [])
        length = next((s.length for s in self._waiting_for if isinstance(s, Series)), 0)
        self._waiting.append((x, self.step, length))

    def settle(self) -> None:
        """Bring all states up to date."""
        self._tally.settle(self._all_statistics())
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        values = torch.stack([x.reshape(()).double() for x, _, _ in waiting])
        _, steps, places = zip(*waiting, strict=True)
        for statistic in self._waiting_for:
            statistic.take_steps(values, places if isinstance(statistic, Series) else steps)

    def discard(self, signals: set[Signal] | None = None) -> None:
        """Forget what was taken since the last commit, or the part of it that is of ``signals``."""
        self._pending = [] if signals is None else [entry for entry in self._pending if entry[3] not in signals]

    def salvage(self) -> bool:
        """Forget all of a step that has failed but what may tell why; true if something does."""
        self.settle()
        self._pending = [entry for entry in self._pending if entry[1].alarming(entry[2])]
        found = bool(self._pending)
        self.commit()
        return found

    def fade(self) -> None:
        """Let exponential averages fade by one measured step, on every rank alike."""
        self._tally.fade()

    def commit(self, later: bool = False) -> None:
        """What was taken counts: at once, or ``later``, when somebody reads the states."""
        pending, self._pending = self._pending, []
        while pending:
            again: list[Pending] = []
            entries: list[Entry] = []
            taken: set[Statistic] = set()
            for entry in pending:
                subject, statistic, partials, _ = entry
                if getattr(subject, "superseded", False):
                    self.books.pop(subject, None)
                elif isinstance(statistic, Series):
                    statistic.merge(partials)
                elif statistic in taken:
                    again.append(entry)
                else:
                    taken.add(statistic)
                    entries += [(statistic, name, partial) for name, partial in partials.items()]
            self._tally.add(entries, self._all_statistics)
            pending = again
        if not later:
            self._tally.settle(self._all_statistics())

    def _all_statistics(self) -> list[Statistic]:
        return list(self.statistics())

    def advance(self, only: Signal | None = None) -> None:
        """A step is over, measured or not; with ``only``, an event of that signal, such as a validation."""
        series = self._series(only)
        if len(self._waiting) >= MANY or any(one.is_full_next for one in series):
            self.settle()
        for one in series:
            one.advance()

    def _series(self, only: Signal | None) -> list[Series]:
        found = self._in_step.get((only, len(self.others)))
        if found is None:
            found = self._in_step[only, len(self.others)] = [
                statistic
                for book in self.others.values()
                for signal, statistics in book.items()
                if signal is only or (only is None and signal is not Signal.VALIDATION_LOSS)
                for statistic in statistics
                if isinstance(statistic, Series)
            ]
        return found

    @property
    def pending(self) -> list[Pending]:
        """What this step has brought so far."""
        return self._pending

    # Windows

    def merged(
        self, note: Any = None, sums: Sequence[float] = (), alone: bool = False
    ) -> tuple[dict[Subject, Book], dict[Subject, Book] | None]:
        """Copies of all statistics on the host, merged over ranks: at most one collective of each kind.

        All ranks must call it at the same step. The first call also gives what was kept of the first measured step.
        When some rank has a layer that another has not, or something else to say, one more exchange makes it known.

        Args:
            note: What this rank has to say beside its layers, in plain containers; those of all are in ``notes`` then.
            sums: Numbers to sum over ranks in the same collective.
            alone: True if other ranks do not take part, because they may be gone.
        """
        self.settle()
        merged = self._merger.merge(note, sums, first=self.first_owed, alone=alone)
        self.sums = merged.sums
        firsts = self._merger.twins(merged.first, keep=False) if self.first_owed else None
        self.first, self.first_owed = {}, False
        return self._merger.twins(merged.now), firsts

    def together(self, note: Any = None, alone: bool = False) -> Merged:
        """The states of all ranks, in the middle of a window, which goes on; all ranks must call it at the same step.

        With ``alone``, other ranks do not take part, and what they have seen is missing.
        """
        self.settle()
        return self._merger.merge(note, first=self.first_owed, alone=alone)

    def at_start(self) -> Merged:
        """The states of all ranks as the last call of ``merged`` and ``reset`` have left them, without a collective."""
        self.settle()
        now: dict[Statistic, States] = {}
        for mine, twin in self._merger.pairs():
            lasting = (
                {} if mine.decay is None else {name: getattr(twin, name) for name in mine.kinds.keys() - mine.steady}
            )
            now[mine] = {name: getattr(mine, name) for name in mine.kinds} | lasting
        return Merged(now)

    def reset(self) -> None:
        """Begin a new window; exponential averages go on."""
        self._waiting, self._tally = [], Tally()
        for statistic in self.statistics():
            if isinstance(statistic, Series):
                statistic.length, statistic.stride = 0, 1
            empty(statistic, statistic.kinds if statistic.decay is None else statistic.steady)

    def clear_snapshots(self) -> None:
        """Empty what holds a state of the weights, not a sum over steps."""
        self.settle()
        for _, book in self.all():
            for signal in SNAPSHOTS & book.keys():
                for statistic in book[signal]:
                    empty(statistic, statistic.kinds)
