"""What ranks tell each other beside numbers: what they could not see, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lightning_neurohealth.coverage import Coverage, silent_modules
from lightning_neurohealth.holdings import FROZEN, WATCHED, standing
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.tracing.finder import LayerFinder

Note = dict[str, Any]


def note_of(finder: LayerFinder, called: set[str], failure: str | None) -> Note:
    """What this rank has to say, in plain containers."""
    return {
        "silent": silent_modules(finder, called),
        "unknown": dict(finder.unknown),
        "called": sorted(called),
        "failure": failure and failure.strip().splitlines()[-1],
    }


def silent_everywhere(notes: Sequence[Note], layers: Iterable[Layer]) -> dict[str, str]:
    """Modules that no rank has seen at work, each with the reason that the first gives."""
    owners = {layer.owner for layer in layers}
    return {
        name: why
        for name, why in notes[0]["silent"].items()
        if name not in owners and all(name in note["silent"] for note in notes)
    }


def unseen_by(notes: Sequence[Note]) -> dict[str, str]:
    """What some rank could not see, each with the reason that the first one gives."""
    missed: dict[str, str] = {}
    for rank, note in enumerate(notes):
        for name, why in note["unknown"].items():
            missed.setdefault(name, why)
        if note["failure"]:
            where = f" on rank {rank}" if len(notes) > 1 else ""
            missed.setdefault("*", f"the monitor failed{where} and watches no layers: {note['failure']}")
    return missed


def coverage_of(
    layers: Sequence[Layer],
    notes: Sequence[Note],
    parameters: Parameters,
    found_out: dict[str, str],
    unfed: dict[str, str],
) -> Coverage:
    """What was watched and what was not; ``found_out`` is what the numbers have shown, layers without rows included."""
    watched = [layer for layer in layers if layer.name not in found_out]
    missed = {**silent_everywhere(notes, layers), **unseen_by(notes), **found_out, **unfed}
    names = tuple(layer.name for layer in watched)
    shares, elsewhere = standing(watched, parameters, missed)
    held = shares.get(WATCHED, 0.0) + shares.get(FROZEN, 0.0)
    return Coverage(names, missed, held, frozenset(unfed), shares, elsewhere)
