"""Validation loss since the start."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.base import Partials, Subject
from lightning_neurohealth.statistics.series import Series


class History(Series):
    """A series that goes on from window to window."""

    decay = 1.0  # outlives the window
    counters = ("length", "stride", "place")

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.place = (0, 1)

    def merge(self, partials: Partials) -> None:
        """Add a number behind those of earlier windows, of which the end of a window has not wiped the place."""
        self.length, self.stride = self.place
        super().merge(partials)

    def advance(self, steps: int = 1) -> None:
        """So many evaluations are over."""
        self.length, self.stride = self.place
        super().advance(steps)
        self.place = (self.length, self.stride)


class ValidationHistory(Measure):
    """Loss of each evaluation since the start of the run, ``[evaluations]``; empty where there was none. Once 512 are
    full, neighbours are averaged.

    Rising for long after its least: the model learns its training data by heart.

    Source: technical deep dive (S2).
    """

    level = "economy"

    def compute(self, validation_loss: History) -> Tensor:
        return validation_loss.points
