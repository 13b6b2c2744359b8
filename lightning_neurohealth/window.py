"""The steps between two reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_neurohealth.breakdown import Breakdown
from lightning_neurohealth.progress import Progress


@dataclass(frozen=True)
class Window:
    """What a rule may know of a window beside its measures.

    Attributes:
        index: 0 for the first window of the run.
        epoch: Epoch in which it closed.
        step: The trainer's global step at which it closed.
        steps: Training steps in it.
        measured: How many of them were measured.
        seen: Training steps since the start of the run.
        trained: Epochs since the start of the run; infinite where the length of an epoch is not known.
        epochs: Share of an epoch's steps that were measured in it; 0 where the length of an epoch is not known.
        batches: Batches whose gradients one step adds up.
        learning_rate: The largest learning rate at its end, NaN where there is none.
        progress: The training loss so far.
        last: True for the last window of a run.
        breakdown: Where it began to break, if it did.
    """

    index: int
    epoch: int
    step: int
    steps: int
    measured: int
    seen: int
    trained: float = float("inf")
    epochs: float = 0.0
    batches: int = 1
    learning_rate: float = float("nan")
    progress: Progress = field(default_factory=Progress)
    last: bool = False
    breakdown: Breakdown | None = None


@dataclass(frozen=True)
class Past:
    """The measures of an earlier window, in the shape in which a rule gets the present ones."""

    window: Window
    measures: Mapping[str, Any]
