"""Brings the statistics of all ranks together on the host: one packed reduction of each kind, however many layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import getitem, is_
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth import ranks
from lightning_neurohealth.counting.shelf import Book, Shelf, States
from lightning_neurohealth.layers import Subject
from lightning_neurohealth.statistics.base import EMPTY, Kind, Statistic

KINDS: tuple[Kind, ...] = ("sum", "min", "max")
Entry = tuple[Statistic, str, Tensor]


@dataclass
class Merged:
    """The states of all ranks together.

    Attributes:
        now: By statistic of this rank.
        first: The same after the first measured step; empty where they are not asked for.
        sums: The numbers that were given along, each summed over ranks.
    """

    now: dict[Statistic, States] = field(default_factory=dict)
    first: dict[Statistic, States] = field(default_factory=dict)
    sums: list[float] = field(default_factory=list)


class Packing:
    """States of some subjects, in the order in which all ranks pack them.

    Attributes:
        entries: By kind, the statistic, the name and the tensor of each.
    """

    def __init__(self, subjects: Sequence[Subject], shelf: Shelf, states_of: Callable[[Statistic], States]) -> None:
        self.entries: dict[Kind, list[Entry]] = {kind: [] for kind in KINDS}
        self._books = [shelf.of(subject) for subject in subjects]
        self._host: dict[Kind, Tensor] = {}
        self.states: dict[Statistic, States] = {}
        for book in self._books:
            for statistics in book.values():
                for statistic in statistics:
                    states = states_of(statistic)
                    for name, kind in statistic.kinds.items():
                        self.entries[kind].append((statistic, name, states[name]))
        self.flat = {kind: _runs([tensor for _, _, tensor in of_kind]) for kind, of_kind in self.entries.items()}
        every = [entry for of_kind in self.entries.values() for entry in of_kind]
        self._held: tuple[list[Any], ...] = (
            [statistic.__dict__ for statistic, _, _ in every],
            [name for _, name, _ in every],
            [tensor for _, _, tensor in every],
        )

    def holds(self, subjects: Sequence[Subject], shelf: Shelf) -> bool:
        """True if these are the very tensors that the states of ``subjects`` are now."""
        if len(subjects) != len(self._books):
            return False
        if any(shelf.of(subject) is not book for subject, book in zip(subjects, self._books, strict=True)):
            return False
        states, names, tensors = self._held  # tens of thousands: no loop of Python's own
        return all(map(is_, map(getitem, states, names), tensors))

    def unpack(self, packed: Tensor, kind: Kind, start: int) -> int:
        """Take merged states from ``start`` on; gives where they end. Each time into the same memory."""
        size = sum(run.numel() for run in self.flat[kind])
        part = packed[start : start + size]
        if kind in self._host:
            self._host[kind].copy_(part)
        else:
            self._host[kind] = part.clone()
            views = self._host[kind].split([tensor.numel() for _, _, tensor in self.entries[kind]])
            for (statistic, name, tensor), view in zip(self.entries[kind], views, strict=True):
                self.states.setdefault(statistic, {})[name] = view if tensor.dim() == 1 else view.view(tensor.shape)
        return start + size


class Merger:
    """Merges what stands on a shelf.

    Ranks that have told each other of their layers once only reduce. The reduction also counts those that have news:
    if there are any, all agree anew, and what is new to some is reduced behind the rest, in the same window.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._twins: dict[Subject, Book] = {}
        self._packing: Packing | None = None
        self._loaded: tuple[Packing, dict[Subject, Book]] | None = None
        self._counting: list[tuple[Statistic, Statistic]] = []

    def merge(
        self, note: Any, sums: Sequence[float] = (), *, first: bool, alone: bool = False, keep: bool = False
    ) -> Merged:
        """Reduce all agreed statistics, and with ``first`` their states after the first measured step.

        With ``alone``, other ranks do not take part, and what they have seen is missing. With ``keep``, what comes out
        stands where it stood the last time.
        """
        shelf, merged = self.shelf, Merged()
        alone = alone or ranks.world_size() == 1
        if alone or shelf.never_agreed:
            shelf.agree(note, alone)
        shelf.bind()
        news = float(not alone and shelf.has_news(note))
        *merged.sums, news = self._reduce(shelf.agreed, [*sums, news], merged, first, alone, keep)
        if news:
            before = set(shelf.agreed)
            shelf.agree(note)
            newcomers = [subject for subject in shelf.agreed if subject not in before]
            if newcomers:
                self._reduce(newcomers, [], merged, first, alone)
        return merged

    def twins(self, states: dict[Statistic, States], keep: bool = True) -> dict[Subject, Book]:
        """Statistics on the host that hold ``states``; with ``keep`` the same ones at every call."""
        packing = self._packing if keep else None
        if packing is not None and len(packing.states) < len(states):
            packing = None  # some stand elsewhere
        if packing is not None and self._loaded is not None and self._loaded[0] is packing:
            for statistic, twin in self._counting:
                _count_alike(statistic, twin)
            return dict(self._loaded[1])
        twins: dict[Subject, Book] = {}
        counting: list[tuple[Statistic, Statistic]] = []
        for subject in self.shelf.agreed:
            book = self.shelf.of(subject)
            known = self._twins.get(subject) if keep else None
            if known is None:
                known = {signal: [s.twin() for s in statistics] for signal, statistics in book.items()}
                if keep:
                    self._twins[subject] = known
            for signal, statistics in book.items():
                for statistic, twin in zip(statistics, known[signal], strict=True):
                    twin.load(states[statistic])
                    if statistic.counters:
                        counting.append((statistic, twin))
                        _count_alike(statistic, twin)
            twins[subject] = known
        if keep:
            self._counting = counting
            self._loaded = None if packing is None else (packing, dict(twins))
        return twins

    def pairs(self) -> Iterator[tuple[Statistic, Statistic]]:
        """Each agreed statistic with its twin of the last merging."""
        for subject in self.shelf.agreed:
            for signal, statistics in self.shelf.of(subject).items():
                yield from zip(statistics, self._twins[subject][signal], strict=True)

    def _reduce(
        self,
        subjects: Sequence[Subject],
        sums: list[float],
        merged: Merged,
        first: bool,
        alone: bool,
        keep: bool = False,
    ) -> list[float]:
        now = self._packed(subjects, keep)
        packings = [now, Packing(subjects, self.shelf, self._first)] if first else [now]
        for kind in KINDS:
            flat = [tensor for packing in packings for tensor in packing.flat[kind]]
            along = sums if kind == "sum" else []
            if not flat and not along:
                continue
            packed = _pack(flat, along)
            if not alone:
                packed = ranks.all_reduce(packed, kind)
            packed, start = packed.cpu(), 0
            for packing in packings:
                start = packing.unpack(packed, kind, start)
            if along:
                sums = packed[start:].tolist()
        for states, packing in zip((merged.now, merged.first), packings, strict=False):
            states.update(packing.states)
        return sums

    def _packed(self, subjects: Sequence[Subject], keep: bool) -> Packing:
        if keep and self._packing is not None and self._packing.holds(subjects, self.shelf):
            return self._packing
        packing = Packing(subjects, self.shelf, self._now)
        if keep:
            self._packing = packing
        return packing

    def _now(self, statistic: Statistic) -> States:
        return {name: getattr(statistic, name) for name in statistic.kinds}

    def _first(self, statistic: Statistic) -> States:
        kept = self.shelf.first.get(statistic)
        if kept is not None:
            return kept
        return {name: torch.full_like(getattr(statistic, name), EMPTY[k]) for name, k in statistic.kinds.items()}


def _count_alike(statistic: Statistic, twin: Statistic) -> None:
    for counter in statistic.counters:
        setattr(twin, counter, getattr(statistic, counter))


def _runs(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same numbers as flat tensors, one for all that lie behind one another in memory."""
    runs: list[list[Tensor]] = []
    end = -1
    for tensor in tensors:
        if tensor.data_ptr() == end and _one_memory(runs[-1][0], tensor):
            runs[-1].append(tensor)
        else:
            runs.append([tensor])
        end = tensor.data_ptr() + tensor.nbytes
    return [_as_one(run) for run in runs]


def _one_memory(tensor: Tensor, other: Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _as_one(run: list[Tensor]) -> Tensor:
    return run[0].reshape(-1) if len(run) == 1 else run[0].as_strided((sum(map(torch.numel, run)),), (1,))


def _pack(tensors: list[Tensor], along: list[float]) -> Tensor:
    device = tensors[0].device if tensors else None
    if any(tensor.device != device for tensor in tensors):
        tensors = [tensor.to(device) for tensor in tensors]
    return torch.cat([*tensors, torch.tensor(along, dtype=torch.float64, device=device)])
