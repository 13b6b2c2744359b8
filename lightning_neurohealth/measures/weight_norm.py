"""Size of a neuron's incoming weights."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments

EPSILON = 1e-8


class WeightNorm(Measure):
    """‖w_i‖₂ over the incoming weights of neuron i at the end of the window, ``[neurons]``, in units of the weight.

    Near 0 beside the others of its layer: what the neuron reads hardly matters to it.

    Sources: neuron health summary (S0), neuron fitness (S3).
    """

    def compute(self, weight: Moments, subject: Layer) -> Tensor:
        return norm(weight, subject)


def norm(weight: Moments, layer: Layer) -> Tensor:
    """Root of the sum of squares over a neuron's weights, ``[neurons]``; a weight that ranks or steps have seen many
    times counts once, by the root of its mean square."""
    return (weight.squares / weight.rows * layer.fan_in).sqrt()
