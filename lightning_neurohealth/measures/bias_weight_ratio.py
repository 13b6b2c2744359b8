"""How far the bias alone drives a neuron into saturation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.weight_norm import EPSILON, norm
from lightning_neurohealth.statistics.biases import SmoothBias
from lightning_neurohealth.statistics.moments import Moments


class BiasWeightRatio(Measure):
    """|b| / (‖w‖ + 1e-8) at the end of the window, ``[neurons]``, no unit; only for layers with a bias and an
    activation without a dead zone (tanh, sigmoid, GELU).

    Over 2 to 3: likely saturated. Left out where a norm stands between weight and activation.

    Source: neuron health summary (S0), "bias/weight ratio heuristic".
    """

    level = "full"

    def compute(self, weight: Moments, bias: SmoothBias, subject: Layer) -> Tensor:
        return bias.mean.abs() / (norm(weight, subject) + EPSILON)
