"""Tells the calls of one module apart: the second within one forward is another layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

import torch

from lightning_neurohealth.layers import ROOT
from lightning_neurohealth.tracing.stretches import stretch


class Calls:
    """Counts calls of one step by the name of who is called: ``relu``, ``relu#2``, …"""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._children: dict[str, str] = {}
        self._stretches: dict[int, dict[str, list[int]]] = {}
        self._open: int | None = None
        self._again: Counter[tuple[int | None, str]] = Counter()

    def begin_step(self) -> None:
        """All count from one."""
        self._counts = {}
        self._stretches.clear()
        self._open = None
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
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = name.split(".")[0]
        counts = self._counts.get(child)
        if counts is None:
            counts = self._counts[child] = {}
        count = counts[name] = counts.get(name, 0) + 1
        if not torch.is_grad_enabled():
            self._note_stretch(name, count)
        return _call(name, count)

    def renumbered(self, name: str, known: Container[str]) -> str:
        """The same for a call that runs again while backward does.

        In a stretch that is not known, such as one within another, calls count from one.
        """
        now = stretch()
        before, self._again[now, name] = self._again[now, name], self._again[now, name] + 1
        numbers = self._stretches.get(now or 0, {}).get(name, [])
        if before < len(numbers):
            return _call(name, numbers[before])
        call = _call(name, before + 1)
        if call not in known:
            self._again[now, name], call = 1, name
        return call

    def _note_stretch(self, name: str, number: int) -> None:
        now = stretch()
        if now is None:
            return
        if now != self._open:
            self._open, self._stretches[now] = now, {}
        self._stretches[now].setdefault(name, []).append(number)


def _call(name: str, number: int) -> str:
    return name if number == 1 else f"{name}#{number}"
