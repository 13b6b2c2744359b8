"""Tells the calls of one module apart: the second within one forward is another layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

from lightning_neurohealth.layers import ROOT


class Calls:
    """Counts calls of one step by the name of who is called: ``relu``, ``relu#2``, …"""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._again: Counter[str] = Counter()

    def begin_step(self) -> None:
        """All count from one."""
        self._counts = {}
        self._again.clear()

    def new_forward(self) -> None:
        """The model is called anew: calls count from one."""
        self._counts.clear()

    def enter(self, child: str) -> None:
        """A composite child of the root is called: its modules' calls count from one."""
        self._counts.pop(child, None)

    def numbered(self, name: str) -> str:
        """``name`` for its first call within one forward, ``name#2`` for its second."""
        name = name or ROOT
        counts = self._counts.setdefault(name.split(".")[0], Counter())
        counts[name] += 1
        return name if counts[name] == 1 else f"{name}#{counts[name]}"

    def renumbered(self, name: str, known: Container[str]) -> str:
        """The same for a call that runs again while backward does; such calls count from one in each stretch."""
        self._again[name] += 1
        call = name if self._again[name] == 1 else f"{name}#{self._again[name]}"
        if call not in known:
            self._again[name], call = 1, name
        return call
