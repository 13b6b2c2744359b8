"""Brings the statistics of all ranks together on the host: one packed reduction of each kind, however many layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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


class Merger:
    """Merges what stands on a shelf.

    Ranks that have told each other of their layers once only reduce. The reduction also counts those that have news:
    if there are any, all agree anew, and what is new to some is reduced behind the rest, in the same window.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._twins: dict[Subject, Book] = {}

    def merge(self, note: Any, sums: Sequence[float] = (), *, first: bool, alone: bool = False) -> Merged:
        """Reduce all agreed statistics, and with ``first`` their states after the first measured step.

        With ``alone``, other ranks do not take part, and what they have seen is missing.
        """
        shelf, merged = self.shelf, Merged()
        alone = alone or ranks.world_size() == 1
        if alone or shelf.never_agreed:
            shelf.agree(note, alone)
        shelf.bind()
        news = float(not alone and shelf.has_news(note))
        *merged.sums, news = self._reduce(shelf.agreed, [*sums, news], merged, first, alone)
        if news:
            before = set(shelf.agreed)
            shelf.agree(note)
            newcomers = [subject for subject in shelf.agreed if subject not in before]
            if newcomers:
                self._reduce(newcomers, [], merged, first, alone)
        return merged

    def twins(self, states: dict[Statistic, States], keep: bool = True) -> dict[Subject, Book]:
        """Statistics on the host that hold ``states``; with ``keep`` the same ones at every call."""
        twins: dict[Subject, Book] = {}
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
                    for counter in statistic.counters:
                        setattr(twin, counter, getattr(statistic, counter))
            twins[subject] = known
        return twins

    def pairs(self) -> Iterator[tuple[Statistic, Statistic]]:
        """Each agreed statistic with its twin of the last merging."""
        for subject in self.shelf.agreed:
            for signal, statistics in self.shelf.of(subject).items():
                yield from zip(statistics, self._twins[subject][signal], strict=True)

    def _reduce(
        self, subjects: Iterable[Subject], sums: list[float], merged: Merged, first: bool, alone: bool
    ) -> list[float]:
        now = self._entries(subjects, self._now)
        then = self._entries(subjects, self._first) if first else {kind: [] for kind in KINDS}
        for kind in KINDS:
            entries = now[kind] + then[kind]
            along = sums if kind == "sum" else []
            if not entries and not along:
                continue
            packed = _pack([tensor for _, _, tensor in entries], along)
            if not alone:
                packed = ranks.all_reduce(packed, kind)
            packed = packed.cpu()
            start = _unpack(packed, 0, now[kind], merged.now)
            start = _unpack(packed, start, then[kind], merged.first)
            if along:
                sums = packed[start:].tolist()
        return sums

    def _entries(self, subjects: Iterable[Subject], states_of: Any) -> dict[Kind, list[Entry]]:
        entries: dict[Kind, list[Entry]] = {kind: [] for kind in KINDS}
        for subject in subjects:
            for statistics in self.shelf.of(subject).values():
                for statistic in statistics:
                    states = states_of(statistic)
                    for name, kind in statistic.kinds.items():
                        entries[kind].append((statistic, name, states[name]))
        return entries

    def _now(self, statistic: Statistic) -> States:
        return {name: getattr(statistic, name) for name in statistic.kinds}

    def _first(self, statistic: Statistic) -> States:
        kept = self.shelf.first.get(statistic)
        if kept is not None:
            return kept
        return {name: torch.full_like(getattr(statistic, name), EMPTY[k]) for name, k in statistic.kinds.items()}


def _pack(tensors: list[Tensor], along: list[float]) -> Tensor:
    device = tensors[0].device if tensors else None
    parts = [tensor.reshape(-1).to(device) for tensor in tensors]
    return torch.cat([*parts, torch.tensor(along, dtype=torch.float64, device=device)])


def _unpack(packed: Tensor, start: int, entries: list[Entry], into: dict[Statistic, States]) -> int:
    sizes = [tensor.numel() for _, _, tensor in entries]
    parts = packed[start : start + sum(sizes)].split(sizes)
    for (statistic, name, tensor), part in zip(entries, parts, strict=True):
        into.setdefault(statistic, {})[name] = part if tensor.dim() == 1 else part.view(tensor.shape)
    return start + sum(sizes)
