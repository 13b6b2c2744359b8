"""How alike a neuron is to another of its layer."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.cosines import Cosines


class Redundancy(Measure):
    """max over j ≠ i of |cos(w_i, w_j)| over incoming weights without bias, ``[neurons]``, no unit; 0 for a neuron
    without weights or without another one beside it.

    Over 0.99: the neuron is a duplicate of another up to scale, sign and bias. Two random neurons have about
    1 / √fan-in, so the largest of many is small but for a tiny fan-in: with one input it is always 1. The bias is left
    out since it is in other units than weights; whether it sets two neurons apart their activations tell, which
    ``redundant_neurons`` compares.

    Source: neuron health summary (S0), "redundancy".
    """

    level = "full"

    def compute(self, weight: Cosines) -> Tensor:
        return weight.largest
