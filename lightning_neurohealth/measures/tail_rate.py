"""How often a neuron works in the tails of its activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.tail_counts import TailCounts


class TailRate(Measure):
    """P(z in the tails of f), ``[neurons]``, a share. The tails are |z| ≥ 2.5 for tanh, |z| ≥ 5 for sigmoid, and where
    |f'| has fallen under 5 % of its largest value for others, on both sides: z ≤ 0 for ReLU.

    Near 1: saturated (tanh, sigmoid) or off (ReLU).

    Source: neuron health summary (S0), "pre-activation magnitude".
    """

    percent = True

    def compute(self, preactivation: TailCounts) -> Tensor:
        return preactivation.tail / preactivation.rows
