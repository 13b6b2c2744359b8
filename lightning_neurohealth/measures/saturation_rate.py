"""How often a neuron is stuck at an end of its range."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.bound_counts import BoundCounts


class SaturationRate(Measure):
    """P(a within the cut-off of a bound of f, either bound), ``[neurons]``, a share; only for activations with a
    bound: |a| ≥ 0.99 for tanh, a ≤ 0.01 or a ≥ 0.99 for sigmoid, the bound itself for ReLU6 and the hard functions. A
    flat end at exactly 0 is a dead zone and counts in ``zero_rate`` instead.

    Near 1: the neuron passes no gradient. 0.3 to 0.7 is common in healthy tanh networks.

    Sources: activation monitoring (S1), technical deep dive (S2), Glorot and Bengio (2010).
    """

    level = "economy"
    percent = True

    def compute(self, activation: BoundCounts) -> Tensor:
        return (activation.low + activation.high) / activation.rows
