"""Adds up what measured steps bring, a whole step in one call, until somebody reads the states."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Kind, Statistic

Place = tuple[Statistic, str]
Entry = tuple[Statistic, str, "Tensor | int"]
Layout = tuple[Kind, "float | None", tuple[Place, ...]]
LAYOUTS = 16
"""Kinds of steps that are kept apart; with more, the states are brought up to date and all begins anew."""
MERGE: dict[Kind, Any] = {
    "sum": torch._foreach_add_,
    "min": torch._foreach_minimum_,
    "max": torch._foreach_maximum_,
}


class Tally:
    """Partials of one step behind one another are one vector; steps that fill the same places add to the same vector.

    A model of a hundred layers has some two thousand states: to add to each of them costs more than to compute what is
    added.
    """

    def __init__(self) -> None:
        self._flat: dict[Layout, Tensor] = {}
        self._rows: dict[Place, float] = {}
        self._fades = 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Take partials, of each state at most one."""
        groups: dict[tuple[Kind, float | None, torch.device], tuple[list[Place], list[Tensor]]] = {}
        for statistic, name, partial in entries:
            if isinstance(partial, int):
                self._rows[statistic, name] = self._rows.get((statistic, name), 0) + partial
                continue
            group = groups.setdefault((statistic.kinds[name], _decay(statistic, name), partial.device), ([], []))
            group[0].append((statistic, name))
            group[1].append(partial)
        for (kind, decay, _), (places, partials) in groups.items():
            flat = torch.cat([partial.reshape(-1) for partial in partials]).double()
            held = self._flat.setdefault((kind, decay, tuple(places)), flat)
            if held is not flat:
                MERGE[kind]([held], [flat])

    @property
    def is_full(self) -> bool:
        """True if steps were of so many kinds that ``settle`` is due."""
        return len(self._flat) > LAYOUTS

    def fade(self) -> None:
        """Exponential averages fade by one step."""
        self._fades += 1
        for (_, decay, _), flat in self._flat.items():
            if decay is not None:
                flat.mul_(decay)
        for (statistic, name), rows in self._rows.items():
            self._rows[statistic, name] = rows * (_decay(statistic, name) or 1.0)

    def settle(self, statistics: Iterable[Statistic]) -> None:
        """Bring the states up to date; ``statistics`` are all that may fade."""
        self._fade_states(statistics)
        for (kind, _, places), flat in self._flat.items():
            states = [getattr(statistic, name) for statistic, name in places]
            parts = flat.split([state.numel() for state in states])
            MERGE[kind](states, [part.view(state.shape) for part, state in zip(parts, states, strict=True)])
        if self._rows:
            states = [getattr(statistic, name) for statistic, name in self._rows]
            torch._foreach_add_(states, list(self._rows.values()))
        self._flat, self._rows, self._fades = {}, {}, 0

    def _fade_states(self, statistics: Iterable[Statistic]) -> None:
        fading: dict[float, list[Tensor]] = {}
        if self._fades:
            for statistic in statistics:
                if statistic.decay is not None:
                    names = statistic.kinds.keys() - statistic.steady
                    fading.setdefault(statistic.decay, []).extend(getattr(statistic, name) for name in names)
        for decay, states in fading.items():
            torch._foreach_mul_(states, decay**self._fades)


def _decay(statistic: Statistic, name: str) -> float | None:
    return None if name in statistic.steady else statistic.decay
