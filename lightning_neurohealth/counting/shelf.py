"""Where the statistics stand: a book for each layer, for the parameters and for the run, in one order on all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth import ranks
from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.roster import Facts, Identity, facts_of, identity, layer_from, learn, settle
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.base import EMPTY, Statistic

Book = dict[Signal, list[Statistic]]
States = dict[str, Tensor]


class Shelf:
    """The books of this rank, and those of layers that only other ranks, or an earlier run, have seen.

    Attributes:
        wanted: The statistics that some measure needs, by signal.
        books: By subject, as this rank has seen it.
        others: Those that are not of layers.
        agreed: The subjects in the order in which all ranks pack them.
        notes: What each rank had to say beside its layers when they last agreed; once, where all said the same.
        first: States after the first measured step, by statistic.
    """

    def __init__(self, measures: Iterable[Measure]) -> None:
        self.wanted: dict[Signal, list[type[Statistic]]] = {}
        for measure in measures:
            for signal, statistic in measure.needs.items():
                wanted = self.wanted.setdefault(signal, [])
                if statistic not in wanted:
                    wanted.append(statistic)
        self.books: dict[Subject, Book] = {}
        self.others: dict[Subject, Book] = {}
        self.agreed: list[Subject] = []
        self.notes: list[Any] = []
        self.first: dict[Statistic, States] = {}
        self._held: dict[Subject, Book] = {}
        self._known: dict[Identity, Layer] = {}
        self._strangers: dict[Identity, Layer] = {}
        self._restored: list[Facts] = []
        self._said: Any = None
        self._models: dict[Any, Statistic] = {}

    def open(self, subject: Subject, kind: str) -> Book:
        """The statistics of ``subject``, made when it is first seen."""
        book = self.books.get(subject)
        if book is not None:
            return book
        key = identity(subject) if isinstance(subject, Layer) else ()
        stranger = self._strangers.get(key)
        if stranger is subject:
            return self._held[subject]
        book = self.books[subject] = self._new_book(subject, kind)
        if kind != "layer":
            self.others[subject] = book
        if stranger is not None:
            self.settle()
            self._take_over(self._held[stranger], book)
            self._held[stranger] = book
            del self._strangers[key]
        return book

    def settle(self) -> None:
        """Bring all states up to date, where some are not."""

    def of(self, subject: Subject) -> Book:
        """The book of an agreed subject."""
        return self._held[subject]

    def strangers(self) -> list[Layer]:
        """Agreed layers that this rank has not seen in this run."""
        return list(self._strangers.values())

    def all(self) -> Iterator[tuple[Subject, Book]]:
        """Every book once."""
        yield from self.books.items()
        for stranger in self._strangers.values():
            yield stranger, self._held[stranger]

    def statistics(self) -> Iterator[Statistic]:
        """Every statistic once."""
        for _, book in self.all():
            for statistics in book.values():
                yield from statistics

    def keep_first(self) -> None:
        """Keep the states as they are, after the first measured step, beside what is to come."""
        self.first = {s: {name: getattr(s, name).clone() for name in s.kinds} for s in self.statistics()}

    # Agreement

    def has_news(self, note: Any) -> bool:
        """True if this rank would say something else than when all last agreed."""
        return (self._facts(), self._restored, note) != self._said

    @property
    def never_agreed(self) -> bool:
        """True before ranks have spoken for the first time."""
        return self._said is None

    def agree(self, note: Any = None, alone: bool = False) -> None:
        """Let all ranks keep the same layers in the same order; one that never saw a layer keeps an empty book of it.

        Args:
            note: What else this rank has to say, in plain containers; those of all are in ``notes`` then.
            alone: True if other ranks do not take part.
        """
        own = {identity(layer): layer for layer in self._live()}
        others = list(self.others)
        alone = alone or ranks.world_size() == 1
        if alone and all(identity(facts) in own for facts in self._restored):
            self._restored = []
            self.notes, layers = [note], list(own.values())
        else:
            mine = (self._facts(), self._restored, note)
            said = [mine] if alone or ranks.all_alike(mine) else ranks.gather_objects(mine)
            self._said = mine
            self.notes = [of_rank[2] for of_rank in said]
            found = settle([of_rank[0] for of_rank in said] + [of_rank[1] for of_rank in said if of_rank[1]])
            layers = [self._agreed_layer(facts) for facts in found]
        self.agreed = sorted([*others, *layers], key=lambda subject: (isinstance(subject, Layer), subject.name))
        self.bind()

    def bind(self) -> None:
        """Let each agreed layer have the book of the layer by which this rank means it."""
        own = {identity(layer): layer for layer in self._live()}
        held = self._held
        self._held, self._strangers = {}, {}
        for subject in self.agreed:
            if not isinstance(subject, Layer):
                self._held[subject] = self.books[subject]
                continue
            known = own.get(identity(subject))
            if known is not None:
                self._held[subject] = self.books[known]
            else:
                self._held[subject] = held.get(subject) or self._new_book(subject, "layer")
                self._strangers[identity(subject)] = subject

    def facts(self) -> list[Facts]:
        """Facts of the agreed layers in the order of execution."""
        layers = sorted((s for s in self.agreed if isinstance(s, Layer)), key=lambda layer: layer.order)
        return [facts_of(layer) for layer in layers]

    def restore(self, known: list[Facts], device: torch.device) -> list[Layer]:
        """Take up layers that an earlier run has seen; their books are empty."""
        self._restored = known
        layers = [layer_from(facts, device) for facts in known]
        self._known.update({identity(layer): layer for layer in layers})
        others = list(self.others)
        self.agreed = [*others, *layers]
        self.bind()
        return layers

    def inherit(self, other: Shelf, layers: list[Layer], device: torch.device) -> None:
        """Take up what another shelf has counted of some of its layers, for those that will be seen as the same."""
        other.settle()
        for layer, mine in zip(layers, self.restore([facts_of(layer) for layer in layers], device), strict=True):
            book = self._held[mine] = other.books.get(layer) or other.of(layer)
            self.keep_first_of(other, book)

    def keep_first_of(self, other: Shelf, book: Book) -> None:
        """Take up what another shelf has kept of the first measured step."""
        kept = (s for statistics in book.values() for s in statistics if s in other.first)
        self.first |= {statistic: other.first[statistic] for statistic in kept}

    # How

    def _live(self) -> list[Layer]:
        return [s for s in self.books if isinstance(s, Layer) and not s.superseded]

    def _facts(self) -> list[Facts]:
        return [facts_of(layer) for layer in sorted(self._live(), key=lambda layer: layer.order)]

    def _agreed_layer(self, facts: Facts) -> Layer:
        layer = self._known.get(identity(facts))
        if layer is None:
            device = next(iter(self.books)).device if self.books else torch.device("cpu")
            layer = self._known[identity(facts)] = layer_from(facts, device)
        learn(layer, facts)
        return layer

    def _new_book(self, subject: Subject, kind: str) -> Book:
        return {
            signal: [self._new(statistic, subject) for statistic in statistics if statistic.applies(subject)]
            for signal, statistics in self.wanted.items()
            if signal.subject == kind
        }

    def _new(self, kind: type[Statistic], subject: Subject) -> Statistic:
        if not isinstance(subject, Layer):
            return kind(subject).to(subject.device)
        alike = (kind, subject.neurons, subject.function, subject.device)
        if alike not in self._models:
            self._models[alike] = kind(subject).to(subject.device)
        return self._models[alike].blank()

    def _take_over(self, old: Book, new: Book) -> None:
        for signal, statistics in old.items():
            of_kind = {type(statistic): statistic for statistic in new[signal]}
            for before in statistics:
                after = of_kind.get(type(before))
                if after is None:
                    continue  # what the layer reads now has no use for it
                after.load({name: getattr(before, name) for name in before.kinds})
                if before in self.first:
                    self.first[after] = self.first.pop(before)


def empty(statistics: Iterable[tuple[Statistic, Iterable[str]]]) -> None:
    """Forget what was seen in some states of each."""
    sums: list[Tensor] = []
    for statistic, names in statistics:
        for name in names:
            state, kind = getattr(statistic, name), statistic.kinds[name]
            if kind == "sum":
                sums.append(state)
            else:
                state.fill_(EMPTY[kind])
    if sums:
        torch._foreach_zero_(sums)
