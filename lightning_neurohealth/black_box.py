"""Keeps how large each signal was in the last measured steps, for the report of a run that breaks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_neurohealth.breakdown import Record
from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.base import Partials, Statistic
from lightning_neurohealth.statistics.magnitude import RecentMagnitude
from lightning_neurohealth.statistics.moments import Moments

LENGTH = 8
"""Measured steps that are kept."""
SOURCES: dict[type[Statistic], tuple[Signal, str, str, float]] = {
    Moments: (Signal.ACTIVATION, "squares", "activations", 0.5),
    RecentMagnitude: (Signal.ACTIVATION_GRADIENT, "sums", "gradients", 1.0),
}
"""Of which statistic of which signal, there anyway, which sum over rows is taken; the signal's name; and the power that
makes a size of the mean."""

Pending = tuple[Subject, Statistic, Partials, Signal]
Layout = tuple[tuple[int, int, int], ...]


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
        self.clear()

    def clear(self) -> None:
        """Forget all steps."""
        self._kept = torch.full((LENGTH, len(self._columns)), -1.0, dtype=torch.float64, device=self.device)
        self._steps = torch.full((LENGTH,), -1, dtype=torch.int64, device=self.device)
        self.reopen()

    def reopen(self) -> None:
        """Take steps again."""
        self._open = torch.ones((), dtype=torch.bool, device=self.device)

    def take(self, pending: Iterable[Pending], step: int) -> None:
        """A measured step has brought ``pending``."""
        parts: list[Tensor] = []
        layout: list[tuple[int, int, int]] = []
        for subject, statistic, partials, signal in pending:
            source = SOURCES.get(type(statistic))
            if source is None or signal is not source[0] or not isinstance(subject, Layer):
                continue
            rows, part = partials["rows"], partials[source[1]]
            if isinstance(part, Tensor) and rows and not subject.superseded:
                layout.append((self._column(subject, source[2], source[3]), statistic.neurons, int(rows)))
                parts.append(part)
        if parts:
            if self._apart:
                parts = [part.to(self.device) for part in parts]
            row = self._means(tuple(layout), torch.cat(parts).double())
            self._push(self._kept, row[None], "_kept")
            self._push(self._steps, torch.full((1,), step, device=self.device), "_steps")
            self._open = self._open & row.isfinite().all()

    def read(self) -> Record:
        """What is kept."""
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

    def _column(self, layer: Layer, signal: str, power: float) -> int:
        column = self._columns.get((layer.name, signal))
        if column is None:
            column = self._columns[layer.name, signal] = len(self._columns)
            self._powers.append(power)
            self._apart |= layer.device != self.device
        return column

    def _means(self, layout: Layout, numbers: Tensor) -> Tensor:
        missing = len(self._columns) - self._kept.shape[1]
        if missing:
            self._kept = torch.nn.functional.pad(self._kept, (0, missing), value=-1.0)
            self._layouts.clear()
        if layout not in self._layouts:
            self._layouts = {layout: self._plan(layout)}
        index, counts = self._layouts[layout]
        sums = torch.zeros_like(counts).index_add_(0, index, numbers)
        return torch.where(counts > 0, sums / counts, -1.0)

    def _plan(self, layout: Layout) -> tuple[Tensor, Tensor]:
        """The column of each number, and how many rows × neurons each column sums."""
        columns, widths, _ = (torch.tensor(numbers) for numbers in zip(*layout, strict=True))
        counts = torch.zeros(len(self._columns), dtype=torch.float64)
        for column, width, rows in layout:
            counts[column] += width * rows
        return columns.repeat_interleave(widths).to(self.device), counts.to(self.device)

    def _push(self, ring: Tensor, row: Tensor, name: str) -> None:
        setattr(self, name, torch.where(self._open, torch.cat([ring[1:], row]), ring))
