"""How much a neuron has to say, of what it could."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_neurohealth.measures.activation_entropy import entropy
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.histogram import Histogram


class ActivationEntropyShare(Measure):
    """``activation_entropy`` / log₂(number of bins), ``[neurons]``, a share; it can be compared between activations
    with different numbers of bins.

    0: constant output. 1: every bin as often as any other, which no common distribution reaches on a grid of octaves.

    Sources: neuron health summary (S0), neuron fitness (S3).
    """

    level = "full"
    percent = True

    def compute(self, activation: Histogram) -> Tensor:
        return entropy(activation.counts) / math.log2(activation.bins)
