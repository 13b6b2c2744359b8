"""The ledger of a run in the middle of a window, as values that a checkpoint may hold, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.counting.merging import Merged
from lightning_neurohealth.counting.shelf import Book, States
from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.roster import Facts
from lightning_neurohealth.statistics.base import Statistic

Place = tuple[str, str]


def state_of(ledger: Ledger, merged: Merged) -> dict[str, Any]:
    """The states of all ranks together, which one rank alone may take up again, as sums would multiply otherwise."""
    return {
        "layers": ledger.facts(),
        "books": {_place(subject): _states(ledger.of(subject), merged.now) for subject in ledger.agreed},
        "first": {_place(subject): _states(ledger.of(subject), merged.first) for subject in ledger.agreed},
        "first_owed": ledger.first_owed,
    }


def restore(
    ledger: Ledger,
    state: Mapping[str, Any],
    layers: list[Facts],
    others: Collection[Subject],
    device: torch.device,
    sums: bool,
) -> None:
    """Take up the states of ``layers`` and of ``others``, as far as the measures of now need them.

    Args:
        ledger: One that has seen nothing yet.
        state: What :func:`state_of` gave.
        layers: Those of its layers that the model still has.
        others: The parameters and the run, as far as they are the same.
        device: Where the layers are.
        sums: True on one rank; on all others only the places are made, and what all count alike.
    """
    ledger.first_owed = state["first_owed"]
    for subject in [*others, *ledger.restore(layers, device)]:
        book = ledger.of(subject) if isinstance(subject, Layer) else ledger.open(subject, subject.name)
        kept, first = state["books"].get(_place(subject), {}), state["first"].get(_place(subject), {})
        for statistic, key in _keys(book):
            if key not in kept:
                continue
            for counter, value in kept[key]["counters"].items():
                setattr(statistic, counter, value)
            if sums and _fits(statistic, kept[key]["states"]):
                statistic.load(_on(statistic, kept[key]["states"]))
                if key in first and _fits(statistic, first[key]["states"]):
                    ledger.first[statistic] = _on(statistic, first[key]["states"])


def _place(subject: Subject) -> Place:
    return ("layer" if isinstance(subject, Layer) else "other", subject.name)


def _keys(book: Book) -> list[tuple[Statistic, tuple[str, str]]]:
    return [(s, (signal.value, type(s).__name__)) for signal, statistics in book.items() for s in statistics]


def _states(book: Book, states: Mapping[Statistic, States]) -> dict[tuple[str, str], Any]:
    return {
        key: {"states": states[statistic], "counters": {name: getattr(statistic, name) for name in statistic.counters}}
        for statistic, key in _keys(book)
        if statistic in states
    }


def _fits(statistic: Statistic, states: Mapping[str, Tensor]) -> bool:
    shapes = {name: getattr(statistic, name).shape for name in statistic.kinds}
    return shapes == {name: value.shape for name, value in states.items()}


def _on(statistic: Statistic, states: Mapping[str, Tensor]) -> States:
    return {name: value.to(statistic.rows.device, copy=True) for name, value in states.items()}
