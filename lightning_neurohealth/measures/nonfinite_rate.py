"""How often a neuron's output is NaN or infinite."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts


class NonfiniteRate(Measure):
    """P(a is NaN or infinite) over the rows of the window, ``[neurons]``, a share. Anything but 0 ends a training.

    Source: technical deep dive (S2), "numerical stability".
    """

    level = "economy"
    percent = True

    def compute(self, activation: NonFiniteCounts) -> Tensor:
        return activation.bad / activation.rows
