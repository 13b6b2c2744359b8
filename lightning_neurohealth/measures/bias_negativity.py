"""How far the bias alone holds a neuron off."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.weight_norm import EPSILON, norm
from lightning_neurohealth.statistics.biases import DirectBias
from lightning_neurohealth.statistics.moments import Moments


class BiasNegativity(Measure):
    """b / (‖w‖ + 1e-8) at the end of the window, ``[neurons]``, no unit; only for layers with a bias.

    For inputs of variance 1, the mean of z in its own standard deviations. Far under −1: a ReLU is likely always off.
    Left out where a norm stands between weight and activation.

    Source: neuron health summary (S0), "bias negativity".
    """

    def compute(self, weight: Moments, bias: DirectBias, subject: Layer) -> Tensor:
        return bias.mean / (norm(weight, subject) + EPSILON)
