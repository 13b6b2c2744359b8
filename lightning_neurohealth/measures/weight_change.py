"""How far a neuron's weights move in a step."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.weight_norm import norm
from lightning_neurohealth.statistics.moments import Moments


class WeightChange(Measure):
    """‖Δw_i‖₂ by one optimizer step, root mean square over the measured steps, ``[neurons]``, in units of the weight.

    0: nothing moves the neuron. Large: it is still adapting, or thrown about.

    Source: neuron fitness (S3), "weight change rate".
    """

    level = "full"

    def compute(self, weight_update: Moments, subject: Layer) -> Tensor:
        return norm(weight_update, subject)
