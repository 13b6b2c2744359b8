"""Mean worth of a layer's neurons."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.fitness import fitness
from lightning_neurohealth.statistics.magnitude import Magnitude
from lightning_neurohealth.statistics.moments import Moments


class FitnessMean(Measure):
    """Mean over neurons of ``fitness``, a scalar between 0 and 1.

    Near 0: one neuron carries the layer. Near 1: all are alike.

    Source: neuron fitness (S3), "layer-level fitness".
    """

    level = "full"

    def compute(self, weight: Moments, weight_gradient: Moments, activation: Magnitude) -> Tensor:
        return fitness(weight, weight_gradient, activation).mean()
