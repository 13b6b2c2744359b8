"""Adds up what measured steps bring, a whole step in one call, until somebody reads the states."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Kind, Statistic

Place = tuple[Statistic, str]
Entry = tuple[Statistic, str, "Tensor | int"]
Group = tuple[Kind, "float | None", torch.device]
Layout = tuple[Kind, "float | None", tuple[Place, ...]]
MERGE: dict[Kind, Any] = {"sum": torch.add, "min": torch.minimum, "max": torch.maximum}


class Tally:
    """States whose partials come in one step lie behind one another in one vector, to which the next such step adds.

    A model of a hundred layers has some two thousand states: to add to each of them costs more than to compute what is
    added. Additions come in the same order as if each state were added to, so that a run that is cut and goes on gives
    the same numbers to the last bit.
    """

    def __init__(self) -> None:
        self._flat: dict[Layout, Tensor] = {}
        self._rows: dict[Place, int] = {}
        self._fades = 0

    def add(self, entries: Iterable[Entry], statistics: Callable[[], Iterable[Statistic]]) -> None:
        """Take partials, of each state at most one; ``statistics`` gives all that may fade."""
        groups: dict[Group, tuple[list[Place], list[Tensor]]] = {}
        for statistic, name, partial in entries:
            decay = None if name in statistic.steady else statistic.decay
            if isinstance(partial, int):
                if decay is None:  # whole numbers add up in any order
                    self._rows[statistic, name] = self._rows.get((statistic, name), 0) + partial
                    continue
                partial = torch.full((), partial, dtype=torch.float64, device=statistic.rows.device)
            group = groups.setdefault((statistic.kinds[name], decay, partial.device), ([], []))
            group[0].append((statistic, name))
            group[1].append(partial)
        layouts = {(kind, decay, tuple(places)): parts for (kind, decay, _), (places, parts) in groups.items()}
        if not layouts.keys() <= self._flat.keys():
            self.settle(statistics())
        for layout, parts in layouts.items():
            kind, _, places = layout
            partials = torch.cat([part.reshape(-1) for part in parts]).double()
            if layout not in self._flat:
                self._flat[layout] = torch.cat([getattr(statistic, name).reshape(-1) for statistic, name in places])
            MERGE[kind](self._flat[layout], partials, out=self._flat[layout])

    def fade(self) -> None:
        """Exponential averages fade by one step."""
        self._fades += 1
        for (_, decay, _), flat in self._flat.items():
            if decay is not None:
                flat.mul_(decay)

    def settle(self, statistics: Iterable[Statistic]) -> None:
        """Bring the states up to date; ``statistics`` are all that may fade."""
        for _ in range(self._fades):
            self._fade_states(statistics)
        for (_, _, places), flat in self._flat.items():
            states = [getattr(statistic, name) for statistic, name in places]
            parts = flat.split([state.numel() for state in states])
            torch._foreach_copy_(states, [part.view(state.shape) for part, state in zip(parts, states, strict=True)])
        for (statistic, name), rows in self._rows.items():
            getattr(statistic, name).add_(rows)
        self._flat, self._rows, self._fades = {}, {}, 0

    def _fade_states(self, statistics: Iterable[Statistic]) -> None:
        fading: dict[float, list[Tensor]] = {}
        for statistic in statistics:
            if statistic.decay is not None:
                names = statistic.kinds.keys() - statistic.steady
                fading.setdefault(statistic.decay, []).extend(getattr(statistic, name) for name in names)
        for decay, states in fading.items():
            torch._foreach_mul_(states, decay)
