"""Whether a neuron can fire at all."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.biases import DirectBias
from lightning_neurohealth.statistics.positive_sums import PositiveSums


class PositiveWeightSum(Measure):
    """Σ max(w, 0) + b at the end of the window, ``[neurons]``, in units of z; only for layers with a bias that read
    nothing negative.

    The largest z over inputs between 0 and 1. Where no weight is positive it is b itself, and under 0 the neuron cannot
    fire whatever it reads; with positive weights, under 0 says that it fires for inputs larger than 1 only. Left out
    where a norm stands between weight and activation.

    Source: neuron health summary (S0), "positive-weight sum".
    """

    def compute(self, weight: PositiveSums, bias: DirectBias, subject: Layer) -> Tensor:
        return weight.sums / weight.rows * subject.fan_in + bias.mean
