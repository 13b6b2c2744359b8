"""How often a neuron fires."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.sign_counts import SignCounts


class OnRate(Measure):
    """P(a > 0) over the rows of the window, ``[neurons]``, a share.

    0: never fires, dead if it stays so. Low: fires rarely, fine in sparse networks. 1: never gates, so the layer is
    linear there. About 0.5 for a ReLU at its start.

    Source: neuron health summary (S0), "activation on-rate".
    """

    level = "economy"
    percent = True

    def compute(self, activation: SignCounts) -> Tensor:
        return activation.positive / activation.rows
