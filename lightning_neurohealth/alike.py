"""Layers that are alike, of which one call gives a measure's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vmap

from lightning_neurohealth.activations import Activation
from lightning_neurohealth.counting.shelf import Book, States
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.base import Statistic

apart: Callable[[Tensor], tuple[Tensor, ...]] = cast("Any", torch.unbind_copy)
"""Rows that are no views, of which one would hold all the others; torch's type says that it gives nothing."""
LEAST = 16
"""Layers from which on one call for all is faster than one for each."""


@dataclass(frozen=True)
class Like:
    """What a measure may ask of its ``subject`` where it is computed of several layers at once."""

    neurons: int
    function: Activation
    fan_in: int
    fan_out: int


@dataclass(frozen=True)
class Stack:
    """A statistic of each of several layers.

    Attributes:
        first: That of the first layer.
        states: Those of all, ``[layers, *shape]``.
        fed: Which have seen rows in the window, ``[layers]``.
    """

    first: Statistic
    states: States
    fed: Tensor

    @classmethod
    def of(cls, statistics: Sequence[Statistic]) -> Stack:
        held = [vars(statistic) for statistic in statistics]  # some sixty states of each layer: every look-up counts
        states = {name: torch.stack([own[name] for own in held]) for name in statistics[0].kinds}
        return cls(statistics[0], states, torch.stack([statistic.new_rows for statistic in statistics]) != 0)


class Alike:
    """Layers with equal statistics and equal facts, and so have the layers that follow them."""

    def __init__(self, like: Like, names: Sequence[str], books: Sequence[Book], after: Sequence[Book]) -> None:
        self.like, self.names = like, names
        self._books, self._after = books, after
        self._stacks: dict[tuple[bool, Signal, type[Statistic]], Stack | None] = {}

    def values(self, measure: Measure) -> dict[str, Tensor]:
        """The numbers of those layers that have all that ``measure`` asks for.

        Raises:
            Exception: It fails, or what it does cannot be done with many layers at once, such as a choice by a number.
        """
        stacks: dict[str, Stack] = {}
        for name, signal, kind in measure.asks:
            stack = self._stack(signal.value != name, signal, kind)
            if stack is None:
                return {}
            stacks[name] = stack
        fed = torch.stack([stack.fed for stack in stacks.values()]).all(0)
        if not fed.any():
            return {}
        places = None if fed.all() else fed.nonzero().flatten()
        states = {name: _only(stack.states, places) for name, stack in stacks.items()}

        def of_one(states: Mapping[str, States]) -> Tensor:
            arguments: dict[str, Any] = {name: _holding(stacks[name].first, own) for name, own in states.items()}
            if measure.wants_subject:
                arguments["subject"] = self.like
            return measure.compute(**arguments)

        found = vmap(of_one)(states)
        names = self.names if places is None else [self.names[place] for place in places.tolist()]
        return dict(zip(names, apart(found), strict=True))

    def _stack(self, next_one: bool, signal: Signal, kind: type[Statistic]) -> Stack | None:
        key = (next_one, signal, kind)
        if key not in self._stacks:
            books = self._after if next_one else self._books
            place = next((i for i, s in enumerate(books[0].get(signal, ())) if type(s) is kind), None)
            self._stacks[key] = None if place is None else Stack.of([book[signal][place] for book in books])
        return self._stacks[key]


def grouped(layers: Mapping[str, Layer], books: Sequence[Book]) -> tuple[list[Alike], set[str]]:
    """Those layers of which there are many alike, and the names of all others."""
    signs = [_sign(layer, book) for layer, book in zip(layers.values(), books, strict=True)]
    together: dict[Any, list[int]] = {}
    for place, pair in enumerate(zip(signs, [*signs, None][1:], strict=True)):
        together.setdefault(pair, []).append(place)
    names, following, found, others = list(layers), [*books, {}][1:], [], set(layers)
    for ((*facts, _), _), places in together.items():
        if len(places) >= LEAST:
            own = [names[place] for place in places]
            others.difference_update(own)
            found.append(Alike(Like(*facts), own, [books[i] for i in places], [following[i] for i in places]))
    return found, others


def _sign(layer: Layer, book: Book) -> Any:
    """Equal for layers that are alike: what ``Like`` holds, and which statistics they have."""
    kinds = tuple(tuple(map(type, statistics)) for statistics in book.values())
    return layer.neurons, layer.function, layer.fan_in, layer.fan_out, (tuple(book), kinds)


def _only(states: States, places: Tensor | None) -> States:
    return states if places is None else {name: state[places] for name, state in states.items()}


def _holding(first: Statistic, states: States) -> Statistic:
    statistic = first.twin()
    statistic.load(states)
    return statistic
