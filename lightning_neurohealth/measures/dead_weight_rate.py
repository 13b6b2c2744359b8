"""Connections that are not used."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.sign_counts import SignCounts


class DeadWeightRate(Measure):
    """P(|w| ≤ 1e-8) over the incoming weights of each neuron at the end of the window, ``[neurons]``, a share.

    1: the neuron reads nothing. Pruned and zero-initialised weights count too.

    Source: technical deep dive (S2), "dead weight detection".
    """

    percent = True

    def compute(self, weight: SignCounts) -> Tensor:
        return weight.zero / weight.rows
