"""Adds up what measured steps bring, a whole step in one call, until somebody reads the states."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Kind, Partials, Statistic
from lightning_neurohealth.statistics.slots import Members

Place = tuple[Members, str]
MERGE: dict[Kind, Any] = {"sum": torch._foreach_add_, "min": torch._foreach_minimum_, "max": torch._foreach_maximum_}


class Tally:
    """States whose partials come together lie behind one another in one vector, to which all later ones are added.

    A model of a hundred layers has some two thousand states: to add to each of them costs more than to compute what is
    added. Additions come in the same order as if each state were added to, so that a run that is cut and goes on gives
    the same numbers to the last bit.
    """

    def __init__(self) -> None:
        self._flat: dict[Place, Tensor] = {}
        self._rows: dict[Place, int] = {}
        self._fades = 0

    def add(self, shares: Iterable[tuple[Members, Partials]], statistics: Callable[[], Iterable[Statistic]]) -> None:
        """Take partials, of each state at most one; ``statistics`` gives all that may fade."""
        groups: dict[Kind, tuple[list[Place], list[Tensor]]] = {}
        for members, partials in shares:
            one = members.first
            for name, partial in partials.items():
                if isinstance(partial, int):
                    if one.decay is None or name in one.steady:  # whole numbers add up in any order
                        self._rows[members, name] = self._rows.get((members, name), 0) + partial
                        continue
                    partial = torch.full_like(one.rows, partial).expand(len(members.statistics))
                places, parts = groups.setdefault(one.kinds[name], ([], []))
                places.append((members, name))
                parts.append(partial.reshape(-1))
        if any(place not in self._flat for places, _ in groups.values() for place in places):
            self.settle(statistics())
        for kind, (places, parts) in groups.items():
            for place in places:
                if place not in self._flat:
                    self._flat[place] = torch.cat([state.reshape(-1) for state in _states(place)])
            MERGE[kind]([self._flat[place] for place in places], parts)

    def fade(self) -> None:
        """Exponential averages fade by one step."""
        self._fades += 1
        fading: dict[float, list[Tensor]] = {}
        for (members, name), flat in self._flat.items():
            one = members.first
            if one.decay is not None and name not in one.steady:
                fading.setdefault(one.decay, []).append(flat)
        for decay, flats in fading.items():
            torch._foreach_mul_(flats, decay)

    def settle(self, statistics: Iterable[Statistic]) -> None:
        """Bring the states up to date; ``statistics`` are all that may fade."""
        for _ in range(self._fades):
            self._fade_states(statistics)
        states: list[Tensor] = []
        parts: list[Tensor] = []
        for place, flat in self._flat.items():
            own = _states(place)
            states += own
            parts += [part.view(own[0].shape) for part in flat.chunk(len(own))]
        if states:
            torch._foreach_copy_(states, parts)
        for place, rows in self._rows.items():
            torch._foreach_add_(_states(place), rows)
        self._flat, self._rows, self._fades = {}, {}, 0

    def _fade_states(self, statistics: Iterable[Statistic]) -> None:
        fading: dict[float, list[Tensor]] = {}
        for statistic in statistics:
            if statistic.decay is not None:
                names = statistic.kinds.keys() - statistic.steady
                fading.setdefault(statistic.decay, []).extend(getattr(statistic, name) for name in names)
        for decay, states in fading.items():
            torch._foreach_mul_(states, decay)


def _states(place: Place) -> list[Tensor]:
    members, name = place
    return [getattr(statistic, name) for statistic in members.statistics]
