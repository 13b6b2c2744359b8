"""How far a neuron's weights move in a step, beside their size."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.weight_norm import EPSILON, norm
from lightning_neurohealth.statistics.moments import Moments


class RelativeWeightChange(Measure):
    """‖Δw_i‖₂ by one optimizer step, root mean square over the measured steps, / (‖w_i‖₂ + 1e-8) at the end of the
    window, ``[neurons]``, no unit.

    0: nothing moves the neuron. About 1e-3 is common; near 1 a step replaces what the neuron has learned.

    Source: neuron fitness (S3), "weight change rate".
    """

    level = "full"

    def compute(self, weight_update: Moments, weight: Moments, subject: Layer) -> Tensor:
        return norm(weight_update, subject) / (norm(weight, subject) + EPSILON)
