"""How often a neuron's output is zero."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.sign_counts import SignCounts


class ZeroRate(Measure):
    """P(|a| ≤ 1e-8) over the rows of the window, ``[neurons]``, a share.

    1: dead, for activations with a zero region. 0.5 is what a healthy ReLU shows (Glorot et al. 2011).

    Source: technical deep dive (S2), "death ratio".
    """

    level = "economy"
    percent = True

    def compute(self, activation: SignCounts) -> Tensor:
        return activation.zero / activation.rows
