"""How many rows a layer has seen."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.sign_counts import SignCounts


class ActivationRows(Measure):
    """Rows = batch × time × space over the measured steps of the window and all ranks, a scalar.

    A share of 0 over few rows proves little: the upper 95 % bound on it is 3 / rows.
    """

    level = "economy"

    def compute(self, activation: SignCounts) -> Tensor:
        return activation.rows
