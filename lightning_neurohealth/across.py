"""The numbers of a window by measure, and earlier windows as a rule sees them, put together when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from torch import Tensor

from lightning_neurohealth.window import Past

Table = Mapping[str, Mapping[str, Tensor]]


class Across(Mapping[str, Any]):
    """Measure to its tensor, or to a mapping of names to tensors.

    Rules ask for a few measures of many windows: to put all of them together would take longer than all else at the end
    of a window.

    Args:
        run: Measures of the run.
        tables: Measures by name, of layers and of parameters.
    """

    def __init__(self, run: Mapping[str, Tensor], tables: Sequence[Table]) -> None:
        self._run, self._tables = run, tables
        self._found: dict[str, Any] = {}

    def __getitem__(self, measure: str) -> Any:
        if measure not in self._found:
            by_name = {n: of_one[measure] for table in self._tables for n, of_one in table.items() if measure in of_one}
            self._found[measure] = by_name or self._run.get(measure)
        found = self._found[measure]
        if found is None:
            raise KeyError(measure)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._run, *(m for t in self._tables for of_one in t.values() for m in of_one))))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Earlier(Sequence[Past]):
    """Earlier windows, the oldest first; most rules look at them only where something is wrong."""

    def __init__(self, find: Callable[[], list[Past]]) -> None:
        self._find = find
        self._found: list[Past] | None = None

    @property
    def _past(self) -> list[Past]:
        if self._found is None:
            self._found = self._find()
        return self._found

    @overload
    def __getitem__(self, place: int) -> Past: ...
    @overload
    def __getitem__(self, place: slice) -> list[Past]: ...
    def __getitem__(self, place: int | slice) -> Past | list[Past]:
        return self._past[place]

    def __len__(self) -> int:
        return len(self._past)
