"""Keeps how large each signal was in the last measured steps, for the report of a run that breaks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from lightning_neurohealth.breakdown import Record
from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.native import What
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.base import Statistic
from lightning_neurohealth.statistics.magnitude import RecentMagnitude
from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.slots import Share, Slot, one_by_one

Source = tuple[Signal, str, str, float]
LENGTH = 8
"""Measured steps that are kept."""
MANY = 64
"""Those that wait to be taken in where each is but a few numbers."""
SOURCES: dict[type[Statistic], Source] = {
    Moments: (Signal.ACTIVATION, "squares", "activations", 0.5),
    RecentMagnitude: (Signal.ACTIVATION_GRADIENT, "sums", "gradients", 1.0),
}
"""Of which statistic of which signal, there anyway, which sum over rows is taken; the signal's name; and the power that
makes a size of the mean."""

IN_C = {
    (Signal.ACTIVATION, Moments): What.SIZE_OF_SQUARES,
    (Signal.ACTIVATION_GRADIENT, RecentMagnitude): What.SIZE_OF_MAGNITUDES,
}
"""The same sums, over neurons too, where C adds them up."""

Layout = tuple[tuple[int, int, int], ...]
"""The column, the neurons and the rows of each part of a step's numbers."""
Brought = tuple[Sequence[Slot], int, Source]
NOTHING: tuple[list[Slot], Tensor] = [], torch.zeros(0, 2, dtype=torch.float64)


class BlackBox:
    """A ring of ``[steps, signals]`` on the device, which takes nothing more once something in it is no number.

    Nothing here waits for the device but :meth:`read`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._columns: dict[tuple[str, str], int] = {}
        self._powers: list[float] = []
        self._apart = False
        self._layouts: dict[Layout, tuple[Tensor, Tensor]] = {}
        self._waiting: list[tuple[int, Layout, list[Tensor], Tensor]] = []
        self._sized: list[int] = []
        self._slots: list[Slot] = []
        self._last: tuple[list[Brought], Layout] = [], ()
        self.clear()

    def clear(self) -> None:
        """Forget all steps."""
        self._waiting.clear()
        self._kept = torch.full((LENGTH, len(self._columns)), -1.0, dtype=torch.float64, device=self.device)
        self._steps = torch.full((LENGTH,), -1, dtype=torch.int64, device=self.device)
        self.reopen()

    def reopen(self) -> None:
        """Take steps again."""
        self._take_in()
        self._open = torch.ones((), dtype=torch.bool, device=self.device)

    def take(self, pending: Sequence[Share], step: int, sizes: tuple[list[Slot], Tensor] = NOTHING) -> None:
        """A measured step has brought ``pending``, and ``sizes`` of some more slots, of each a sum and of how many."""
        parts, brought = self._brought(pending)
        slots, of_slots = sizes
        if len(slots) != len(self._sized) or (slots and slots is not self._slots):
            self._take_in()
            self._slots, self._sized = slots, [self._column_of(slot) for slot in slots]
        superseded = [place for place, slot in enumerate(slots) if _is_superseded(slot.subject)]
        if superseded:
            of_slots[superseded] = 0.0
        if parts or slots:
            if brought != self._last[0]:
                self._last = brought, self._layout(brought)
            self._waiting.append((step, self._last[1], parts, of_slots))
            if len(self._waiting) >= (LENGTH if parts else MANY):  # one call for several steps
                self._take_in()

    def read(self) -> Record:
        """What is kept."""
        self._take_in()
        steps = self._steps.tolist()
        kept = [place for place, step in enumerate(steps) if step >= 0]
        powers = torch.tensor(self._powers, dtype=torch.float64)
        sizes = self._kept.cpu()[kept]
        sizes = torch.where(sizes < 0, sizes, sizes**powers)
        return Record(
            [steps[place] for place in kept],
            {place: sizes[:, column].tolist() for place, column in self._columns.items()},
        )

    # How

    def _brought(self, pending: Sequence[Share]) -> tuple[list[Tensor], list[Brought]]:
        parts: list[Tensor] = []
        brought: list[Brought] = []
        for share in pending if not any(map(_has_superseded, pending)) else one_by_one(pending):
            source = SOURCES.get(type(share.members.first))
            if source is None or share.signal is not source[0] or _has_superseded(share):
                continue
            rows, part = share.partials["rows"], share.partials[source[1]]
            if isinstance(part, Tensor) and rows:
                brought.append((share.slots, int(rows), source))
                parts.append(part)
        return parts, brought

    def _layout(self, brought: list[Brought]) -> Layout:
        return tuple(
            (self._column(slot.subject, source[2], source[3]), slot.subject.neurons, rows)
            for slots, rows, source in brought
            for slot in slots
        )

    def _column_of(self, slot: Slot) -> int:
        _, _, kind, power = next(source for source in SOURCES.values() if source[0] is slot.signal)
        return self._column(slot.subject, kind, power)

    def _column(self, layer: Subject, signal: str, power: float) -> int:
        column = self._columns.get((layer.name, signal))
        if column is None:
            column = self._columns[layer.name, signal] = len(self._columns)
            self._powers.append(power)
            self._apart |= layer.device != self.device
        return column

    def _take_in(self) -> None:
        waiting, self._waiting = self._waiting, []
        for layout, taken in groupby(waiting, lambda taken: taken[1]):
            steps, _, parts, sizes = zip(*taken, strict=True)
            if self._apart:
                parts = tuple([part.to(self.device) for part in of_one] for of_one in parts)
            nothing = self._steps.new_zeros(0, dtype=torch.float64)
            numbers = torch.stack([torch.cat(of_one or [nothing]).double() for of_one in parts])
            self._push(steps, self._means(layout, numbers, torch.stack(sizes).to(self.device)))

    def _means(self, layout: Layout, numbers: Tensor, sizes: Tensor) -> Tensor:
        missing = len(self._columns) - self._kept.shape[1]
        if missing:
            self._kept = torch.nn.functional.pad(self._kept, (0, missing), value=-1.0)
            self._layouts.clear()
        if layout not in self._layouts:
            self._layouts = {layout: self._plan(layout)}
        index, counts = self._layouts[layout]
        sums = counts.new_zeros(len(numbers), len(counts)).index_add_(1, index, numbers)
        columns = torch.tensor(self._sized, dtype=torch.int64, device=self.device)
        sums.index_add_(1, columns, sizes[..., 0])
        counts = counts.repeat(len(numbers), 1).index_add_(1, columns, sizes[..., 1])
        return torch.where(counts > 0, sums / counts, -1.0)

    def _plan(self, layout: Layout) -> tuple[Tensor, Tensor]:
        """The column of each number, and how many rows × neurons each column sums."""
        columns, widths = (torch.tensor([part[i] for part in layout], dtype=torch.int64) for i in (0, 1))
        counts = torch.zeros(len(self._columns), dtype=torch.float64)
        for column, width, rows in layout:
            counts[column] += width * rows
        return columns.repeat_interleave(widths).to(self.device), counts.to(self.device)

    def _push(self, steps: Sequence[int], rows: Tensor) -> None:
        """Move the ring on by ``rows``, ``[steps, columns]``, but not beyond the first that is not finite."""
        bad = ~rows.isfinite().all(1)
        kept = self._open & (bad.cumsum(0) - bad.long() == 0)
        last = kept.sum() + torch.arange(LENGTH, device=self.device)
        self._kept = torch.cat([self._kept, rows])[last]
        self._steps = torch.cat([self._steps, torch.tensor(steps).to(self.device)])[last]
        self._open = self._open & ~bad.any()


def _is_superseded(subject: Subject) -> bool:
    return isinstance(subject, Layer) and subject.superseded


def _has_superseded(share: Share) -> bool:
    return any(_is_superseded(slot.subject) for slot in share.slots)
