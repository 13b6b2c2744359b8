"""Adds up what measured steps bring, a whole step in one call, until somebody reads the states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.statistics.base import Kind, Partials, Statistic
from lightning_neurohealth.statistics.slots import Members

Place = tuple[Members, str]
Group = tuple[Kind, "float | None", torch.device]
NONE: tuple[list[Place], None] = [], None
MERGE: dict[Kind, Any] = {"sum": torch.add, "min": torch.minimum, "max": torch.maximum}
MERGE_EACH: dict[Kind, Any] = {
    "sum": torch._foreach_add_,
    "min": torch._foreach_minimum_,
    "max": torch._foreach_maximum_,
}


class Layout:
    """Where the partials of steps that bring the same go.

    Attributes:
        whats: Whose partials come, in which order.
        places: By group, whose states lie behind one another.
        plans: Of each share, the names of the partials of each group, and of whole numbers, which are counted.
    """

    def __init__(self, shares: Sequence[tuple[Members, Partials]]) -> None:
        self.whats = [(members, tuple(partials)) for members, partials in shares]
        self.places: dict[Group, list[Place]] = {}
        self.plans: list[tuple[list[tuple[str, Group]], list[str]]] = []
        for members, partials in shares:
            one, tensors, counts = members.first, [], []
            for name, partial in partials.items():
                decay = None if name in one.steady else one.decay
                if isinstance(partial, int) and decay is None:
                    counts.append(name)  # whole numbers add up in any order
                    continue
                device = partial.device if isinstance(partial, Tensor) else one.rows.device
                group = (one.kinds[name], decay, device)
                self.places.setdefault(group, []).append((members, name))
                tensors.append((name, group))
            self.plans.append((tensors, counts))

    def fits(self, shares: Sequence[tuple[Members, Partials]]) -> bool:
        """True if such partials come again."""
        return len(shares) == len(self.whats) and all(
            members is known and tuple(partials) == names
            for (members, partials), (known, names) in zip(shares, self.whats, strict=True)
        )


class Tally:
    """States whose partials come in one step lie behind one another in one vector, to which the next such step adds.

    A model of a hundred layers has some two thousand states: to add to each of them costs more than to compute what is
    added. Additions come in the same order as if each state were added to, so that a run that is cut and goes on gives
    the same numbers to the last bit.
    """

    def __init__(self) -> None:
        self._flat: dict[Group, tuple[list[Place], Tensor]] = {}
        self._layout = Layout(())
        self._rows: dict[Place, int] = {}
        self._fades = 0

    def add(self, shares: Sequence[tuple[Members, Partials]], statistics: Callable[[], Iterable[Statistic]]) -> None:
        """Take partials, of each state at most one; ``statistics`` gives all that may fade."""
        if not self._layout.fits(shares):
            self._layout = Layout(shares)
        if any(self._flat.get(group, NONE)[0] != places for group, places in self._layout.places.items()):
            self.settle(statistics)
        parts: dict[Group, list[Tensor]] = {group: [] for group in self._layout.places}
        for (members, partials), (tensors, counts) in zip(shares, self._layout.plans, strict=True):
            for name in counts:
                self._rows[members, name] = self._rows.get((members, name), 0) + int(partials[name])
            for name, group in tensors:
                partial = partials[name]
                if isinstance(partial, int):
                    partial = torch.full_like(members.first.rows, partial).expand(len(members.statistics))
                parts[group].append(partial if partial.dim() == 1 else partial.reshape(-1))
        for group, places in self._layout.places.items():
            new = _behind_one_another(parts[group])
            if group not in self._flat:
                states = [state.reshape(-1) for place in places for state in _states(place)]
                self._flat[group] = places, _behind_one_another(states)
            flat = self._flat[group][1]
            MERGE[group[0]](flat, new, out=flat)

    def fade(self) -> None:
        """Exponential averages fade by one step."""
        self._fades += 1
        for (_, decay, _), (_, flat) in self._flat.items():
            if decay is not None:
                flat.mul_(decay)

    def settle(self, statistics: Callable[[], Iterable[Statistic]]) -> None:
        """Bring the states up to date; ``statistics`` gives all that may fade."""
        if self._fades:
            self._fade_states(statistics(), self._fades)
        for places, flat in self._flat.values():
            states = [state for place in places for state in _states(place)]
            parts = flat.split([state.numel() for state in states])
            torch._foreach_copy_(states, [part.view(state.shape) for part, state in zip(parts, states, strict=True)])
        counts = [(state, rows) for place, rows in self._rows.items() for state in _states(place)]
        if counts:
            torch._foreach_add_([state for state, _ in counts], [rows for _, rows in counts])
        self._flat, self._rows, self._fades = {}, {}, 0

    @staticmethod
    def add_once(shares: Iterable[tuple[Members, Partials]]) -> None:
        """Take partials into states that are up to date, where no more of the kind will come soon."""
        added: dict[Kind, tuple[list[Tensor], list[Any]]] = {}
        counted: tuple[list[Tensor], list[Any]] = [], []
        for members, partials in shares:
            for statistic, own in members.split(partials):
                for name, partial in own.items():
                    state = getattr(statistic, name)
                    if isinstance(partial, int):
                        into, new = counted
                    else:
                        into, new = added.setdefault(statistic.kinds[name], ([], []))
                        partial = partial.double().view(state.shape)
                    into.append(state)
                    new.append(partial)
        for kind, (states, parts) in added.items():
            MERGE_EACH[kind](states, parts)
        if counted[0]:
            torch._foreach_add_(*counted)

    @staticmethod
    def _fade_states(statistics: Iterable[Statistic], steps: int) -> None:
        fading: dict[float, list[Tensor]] = {}
        for statistic in statistics:
            if statistic.decay is not None:
                names = statistic.kinds.keys() - statistic.steady
                fading.setdefault(statistic.decay, []).extend(getattr(statistic, name) for name in names)
        for decay, states in fading.items():
            for _ in range(steps):  # as rounding would have it step by step
                torch._foreach_mul_(states, decay)


def _states(place: Place) -> list[Tensor]:
    members, name = place
    return [getattr(statistic, name) for statistic in members.statistics]


def _behind_one_another(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).double()
