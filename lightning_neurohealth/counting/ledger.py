"""Keeps the statistics of every layer, of the parameters and of the run, over steps and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.counting.merging import Merged, Merger
from lightning_neurohealth.counting.native_sums import NativeSums, Sizes
from lightning_neurohealth.counting.routes import Route
from lightning_neurohealth.counting.shelf import Book, Shelf, States, empty
from lightning_neurohealth.counting.spreading import spread
from lightning_neurohealth.counting.strip import MANY, Strip
from lightning_neurohealth.counting.tally import Tally
from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.sharding import Part
from lightning_neurohealth.signals import SNAPSHOTS, Signal
from lightning_neurohealth.statistics.base import Partials, Statistic
from lightning_neurohealth.statistics.fused import Fuse, Fusion
from lightning_neurohealth.statistics.rows import Rows
from lightning_neurohealth.statistics.series import Series
from lightning_neurohealth.statistics.slots import Members, Share, Slot, one_by_one
from lightning_neurohealth.statistics.waiting import Waiting
from lightning_neurohealth.statistics.workspace import Workspace

__all__ = ["Book", "Ledger"]


def _is_nonnegative(slot: Slot) -> bool:
    subject = slot.subject
    return slot.signal is Signal.ACTIVATION and isinstance(subject, Layer) and subject.function.is_nonnegative


class Ledger(Shelf):
    """Collects only what the chosen measures need.

    A step is a transaction: what its taps bring is kept aside until ``commit``, and forgotten by ``discard`` if the
    step turns out not to count.

    Attributes:
        step: Number of the current step, for statistics that remember when.
        first_owed: True until what was kept of the first measured step has been merged.
        apart: Statistics that compare neurons and have met a layer whose neurons are on several ranks.
        native: What is summed in C.
        sums: The numbers that were given to the last ``merged``, each summed over ranks.
    """

    def __init__(self, measures: Iterable[Measure], fused: Fuse = False, sizes: Sizes = MappingProxyType({})) -> None:
        super().__init__(measures)
        self._fusion = Fusion(fused)
        self._on_host = fused is not False
        self.step = 0
        self.first_owed = True
        self.sums: list[float] = []
        self.apart: set[type[Statistic]] = set()
        self._pending: list[Share] = []
        self._slots: dict[tuple[Subject, Signal], Slot] = {}
        self._kinds: dict[Any, object] = {}
        self.native = NativeSums(fused is not False, sizes, self._kinds)
        self._workspace = Workspace()
        self._waiting = Waiting(self._workspace)
        self._together: dict[tuple[Slot, ...], list[Members]] = {}
        self._later: dict[tuple[Subject, Signal], Strip] = {}
        self._behind = 0
        self._in_step: dict[tuple[Signal | None, int], list[Series]] = {}
        self._tally = Tally()
        self._merger = Merger(self)

    def take(self, subject: Subject, signal: Signal, x: Tensor, part: Part | None = None, rest: bool = False) -> None:
        """Reduce the rows of ``x``, shape ``[outer, neurons, inner]``; a batch without rows adds nothing.

        With ``part``, those are neurons of a layer that is split over ranks; with ``rest``, they were taken in C as far
        as that is possible.
        """
        with torch.no_grad():  # slopes of learned activations are made of their parameters
            if part is not None:
                self._take_part(subject, signal, x, part)
            elif x.numel():
                slot = self._slot(subject, signal, rest)
                if slot.statistics:
                    self._reduce((slot,), Rows(x, _is_nonnegative(slot), self._workspace))

    def route(self, subject: Subject, signal: Signal) -> Route | None:
        """How the signal is summed in C; ``None`` where C has nothing to do."""
        if (subject, signal) not in self.native.routes:
            self.native.open(subject, self._slot(subject, signal))
        return self.native.routes[subject, signal]

    def take_soon(self, subject: Subject, signal: Signal, x: Tensor, rest: bool = False) -> None:
        """The same for rows whose memory is ours, together with others, and before the step ends at the latest."""
        if x.numel():
            slot = self._slot(subject, signal, rest)
            if slot.statistics and self._waiting.add(slot, x, _is_nonnegative(slot)):
                self._catch_up()

    def _catch_up(self) -> None:
        if not self._waiting.any:
            return
        with torch.no_grad():
            for slots, rows in self._waiting.taken():
                self._reduce(slots, rows)

    def _reduce(self, slots: tuple[Slot, ...], rows: Rows) -> None:
        first = slots[0]
        found = self._fusion.partials(first.joint, rows, self.step)
        for members, partials in zip(self._members(slots), found, strict=True):
            self._pending.append(Share(slots, members, partials))
        for slot, own in zip(slots, rows.apart(), strict=True) if first.single else ():
            for statistic in slot.single:
                self._pending.append(Share((slot,), slot.alone[statistic], statistic.partials(own, self.step)))

    def _members(self, slots: tuple[Slot, ...]) -> list[Members]:
        if len(slots) == 1:
            return [slots[0].alone[statistic] for statistic in slots[0].joint]
        found = self._together.get(slots)
        if found is None:
            found = self._together[slots] = [Members(same) for same in zip(*(s.joint for s in slots), strict=True)]
        return found

    def _slot(self, subject: Subject, signal: Signal, rest: bool = False) -> Slot:
        slot = (self.native.rest(subject, signal) if rest else None) or self._slots.get((subject, signal))
        if slot is None:
            statistics = self.open(subject, signal.subject).get(signal, [])
            slot = self._slots[subject, signal] = Slot(subject, signal, statistics, self._kinds)
        return slot

    def _take_over(self, old: Book, new: Book) -> None:
        super()._take_over(old, new)
        self._forget_slots()

    def _forget_slots(self) -> None:
        self._slots.clear()
        self.native.forget_routes(self.statistics())

    def _take_part(self, subject: Subject, signal: Signal, x: Tensor, part: Part) -> None:
        slot = self._slot(subject, signal)  # on ranks without a neuron too: all pack the same
        if x.shape[0] * x.shape[2]:
            for statistic in slot.statistics:
                if statistic.together:
                    self.apart.add(type(statistic))
                else:
                    partials = spread(statistic, statistic.partials(x, self.step), part)
                    self._pending.append(Share((slot,), slot.alone[statistic], partials))

    def record(self, subject: Subject, signal: Signal, x: Tensor) -> None:
        """Take the one number ``x`` at once, whatever becomes of the step."""
        self._keep_up()
        for statistic in self.open(subject, signal.subject).get(signal, ()):
            statistic.merge(statistic.partials(x, self.step))

    def record_later(self, subject: Subject, signal: Signal, x: Tensor) -> None:
        """Take the one number that ``x`` is now, of this step; those of many steps are added in one call."""
        later = self._later.get((subject, signal))
        if later is not None and later.full:
            self._keep_up()
            later = None
        if later is None:
            later = self._later[subject, signal] = Strip(subject.device, self._on_host and subject.device.type == "cpu")
        later.add(x, self.step, self._behind)

    def settle(self) -> None:
        """Bring all states up to date."""
        self._tally.settle(self._fading)
        self.native.settle()
        self._keep_up()

    def _keep_up(self) -> None:
        """Bring the series to the current step."""
        strips, self._later = self._later, {}
        behind, self._behind = self._behind, 0
        extended: set[Statistic] = set()
        for (subject, signal), later in strips.items():
            values = later.values()
            for statistic in self.open(subject, signal.subject).get(signal, ()):
                if isinstance(statistic, Series):
                    statistic.extend(values, later.places, behind)
                    extended.add(statistic)
                else:
                    statistic.take_steps(values, later.steps)
        for one in self._series(None):
            if one not in extended:
                one.advance(behind)

    def discard(self, signals: set[Signal] | None = None) -> None:
        """Forget what was taken since the last commit, or the part of it that is of ``signals``."""
        if signals is None:
            self._waiting.clear()
            self.native.discard()
            self._pending = []
        else:
            self._pending = [share for share in self._taken() if share.signal not in signals]

    def salvage(self) -> bool:
        """Forget all of a step that has failed but what may tell why; true if something does."""
        self.settle()
        self._pending = [share for share in one_by_one(self._taken()) if share.members.first.alarming(share.partials)]
        found = bool(self._pending)
        self.commit()
        return found

    def _taken(self) -> list[Share]:
        self._catch_up()
        pending, self._pending = [*self._pending, *self.native.taken()], []
        return pending

    def fade(self) -> None:
        """Let exponential averages fade by one measured step, on every rank alike."""
        self._tally.fade()
        self.native.fade()

    def commit(self, later: bool = False) -> None:
        """What was taken counts: at once, or ``later``, when somebody reads the states."""
        self._catch_up()
        pending, self._pending = self._pending, []
        self.native.commit()
        if not later:
            self._tally.settle(self._fading)
            self.native.settle()
        superseded = {subject for subject in self.books if getattr(subject, "superseded", False)}
        if superseded:
            pending = [share for share in one_by_one(pending) if share.slots[0].subject not in superseded]
            for subject in superseded:
                del self.books[subject]
            self._forget_slots()
        while pending:
            again: list[Share] = []
            now: list[tuple[Members, Partials]] = []
            at_once: list[tuple[Members, Partials]] = []
            taken: set[Statistic] = set()
            for share in pending:
                statistics = share.members.statistics
                if isinstance(statistics[0], Series):
                    self._keep_up()
                    statistics[0].merge(share.partials)
                elif taken.isdisjoint(statistics):
                    taken.update(statistics)
                    (at_once if statistics[0] in self.native else now).append((share.members, share.partials))
                else:
                    again.append(share)
            if later:
                self._tally.add(now, self._fading)
                if at_once:
                    self.native.settle()
                    self._tally.add_once(at_once)
            else:
                self._tally.add_once([*now, *at_once])
            pending = again

    def _fading(self) -> list[Statistic]:
        """What fades, but for what does so in C."""
        return [s for s in self.statistics() if s.decay is not None and s not in self.native]

    def advance(self, only: Signal | None = None) -> None:
        """A step is over, measured or not; with ``only``, an event of that signal, such as a validation."""
        if only is None:
            self._behind += 1
            if self._behind >= MANY:
                self._keep_up()
            return
        for one in self._series(only):
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
    def pending(self) -> list[Share]:
        """What this step has brought so far, but for what was taken in C."""
        self._catch_up()
        return self._pending

    @property
    def sizes(self) -> tuple[list[Slot], Tensor]:
        """Of what was taken in C, whose sizes are wanted, and of each a sum and of how many numbers, ``[slots, 2]``."""
        return self.native.sizes()

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
        merged = self._merger.merge(note, sums, first=self.first_owed, alone=alone, keep=True)
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
                {}
                if mine.decay is None
                else {name: getattr(twin, name).clone() for name in mine.kinds.keys() - mine.steady}
            )
            now[mine] = {name: getattr(mine, name) for name in mine.kinds} | lasting
        return Merged(now)

    def reset(self) -> None:
        """Begin a new window; exponential averages go on."""
        self._workspace.clear()  # weights may be larger than all that comes until the next one ends
        self._later, self._behind, self._tally = {}, 0, Tally()
        self.native.empty()
        others = [statistic for statistic in self.statistics() if not self.native.holds(statistic)]
        for statistic in others:
            if isinstance(statistic, Series):
                statistic.length, statistic.stride = 0, 1
        empty((s, s.kinds if s.decay is None else s.steady) for s in others)

    def clear_snapshots(self) -> None:
        """Empty what holds a state of the weights, not a sum over steps."""
        self.settle()
        self.native.empty_snapshots()
        still = [s for _, book in self.all() for signal in SNAPSHOTS & book.keys() for s in book[signal]]
        empty((statistic, statistic.kinds) for statistic in still if not self.native.holds(statistic))
