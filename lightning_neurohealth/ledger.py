"""Keeps the statistics of every layer, of the parameters and of the run, over steps and ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth import ranks
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.base import EMPTY, Kind, Partials, Statistic, Subject
from lightning_neurohealth.statistics.series import Series

KINDS: tuple[Kind, ...] = ("sum", "min", "max")
Book = dict[Signal, list[Statistic]]


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
        self._pending: list[tuple[Subject, Statistic, Partials]] = []
        self._agreed: list[Subject] = []
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
            self._pending.append((subject, statistic, statistic.partials(x, self.step)))

    def discard(self) -> None:
        """Forget what was taken since the last commit."""
        self._pending.clear()

    def fade(self) -> None:
        """Let exponential averages fade by one measured step, on every rank alike."""
        for decay, states in self._fading().items():
            torch._foreach_mul_(states, decay)

    def commit(self) -> None:
        """Add what was taken to the states, many layers in one call."""
        pending, self._pending = self._pending, []
        while pending:
            later: list[tuple[Subject, Statistic, Partials]] = []
            batch: dict[Kind, tuple[list[Tensor], list[Tensor]]] = {kind: ([], []) for kind in KINDS}
            rows: tuple[list[Tensor], list[int]] = ([], [])
            taken: set[Statistic] = set()
            for entry in pending:
                subject, statistic, partials = entry
                if getattr(subject, "superseded", False):
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

    def advance(self) -> None:
        """A step is over, measured or not."""
        for book in self.books.values():
            for statistics in book.values():
                for statistic in statistics:
                    if isinstance(statistic, Series):
                        statistic.advance()

    # Windows

    def agree(self) -> None:
        """Let all ranks keep the same layers in the same order; a rank that never saw one keeps it empty."""
        if ranks.world_size() > 1:
            layers = [s for s in self.books if isinstance(s, Layer)]
            mine = {layer.name: layer for layer in layers}
            for facts in [fact for of_rank in ranks.gather_objects([_facts(x) for x in layers]) for fact in of_rank]:
                layer = mine.get(facts["name"])
                if layer is None:
                    device = layers[0].device if layers else torch.device("cpu")
                    layer = mine[facts["name"]] = Layer(**{**facts, "device": device})
                    self.open(layer, "layer")
            self.books = {mine.get(s.name, s): self.books[mine.get(s.name, s)] for s in [*self.books]}
        self._agreed = sorted(self.books, key=lambda subject: (isinstance(subject, Layer), subject.name))

    def merged(self) -> dict[Subject, Book]:
        """Copies of all statistics on the host, merged over ranks: at most one collective of each kind."""
        if ranks.world_size() == 1:
            self.agree()
        states: dict[Kind, list[tuple[Statistic, str, Tensor]]] = {kind: [] for kind in KINDS}
        for subject in self._agreed:
            for statistics in self.books[subject].values():
                for statistic in statistics:
                    for name, kind in statistic.kinds.items():
                        states[kind].append((statistic, name, getattr(statistic, name)))
        strangers = len(self.books) - len(self._agreed)
        values: dict[Statistic, dict[str, Tensor]] = {}
        for kind, entries in states.items():
            if not entries:
                continue
            device = entries[0][2].device
            flat = [tensor.reshape(-1).to(device) for _, _, tensor in entries]
            packed = torch.cat([*flat, torch.full((1,), float(strangers), dtype=flat[0].dtype, device=device)])
            packed = ranks.all_reduce(packed, kind).cpu()
            if kind == "sum":
                strangers = int(packed[-1])
            start = 0
            for statistic, name, tensor in entries:
                part = packed[start : start + tensor.numel()].view(tensor.shape)
                values.setdefault(statistic, {})[name] = part
                start += tensor.numel()
        twins = {
            subject: {
                signal: [self._twin(subject, statistic, values[statistic]) for statistic in statistics]
                for signal, statistics in self.books[subject].items()
            }
            for subject in self._agreed
        }
        if strangers and ranks.world_size() > 1:
            self.agree()
        return twins

    def reset(self) -> None:
        """Begin a new window; exponential averages go on."""
        for subject in self._agreed:
            for statistics in self.books[subject].values():
                for statistic in statistics:
                    if isinstance(statistic, Series):
                        statistic.length, statistic.stride = 0, 1
                    if statistic.decay is None:
                        for name, kind in statistic.kinds.items():
                            getattr(statistic, name).fill_(EMPTY[kind])

    # How

    def _fading(self) -> dict[float, list[Tensor]]:
        states: dict[float, list[Tensor]] = {}
        for book in self.books.values():
            for statistics in book.values():
                for statistic in statistics:
                    if statistic.decay is not None:
                        states.setdefault(statistic.decay, []).extend(getattr(statistic, n) for n in statistic.kinds)
        return states

    def _twin(self, subject: Subject, statistic: Statistic, states: dict[str, Tensor]) -> Statistic:
        if statistic not in self._twins:
            self._twins[statistic] = type(statistic)(subject)
        twin = self._twins[statistic]
        twin.load(states)
        return twin


def _facts(layer: Layer) -> dict[str, Any]:
    return {name: value for name, value in vars(layer).items() if name not in ("device", "superseded")}


_MERGE: dict[Kind, Any] = {
    "sum": torch._foreach_add_,
    "min": torch._foreach_minimum_,
    "max": torch._foreach_maximum_,
}
