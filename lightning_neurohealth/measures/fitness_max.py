"""Worth of a layer's best neuron."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.fitness import fitness
from lightning_neurohealth.statistics.magnitude import Magnitude
from lightning_neurohealth.statistics.moments import Moments


class FitnessMax(Measure):
    """Largest ``fitness`` of a layer's neurons, a scalar between 0 and 1.

    1: one neuron leads in weight, gradient and activation alike. Far under 1: those who learn are not those who speak.

    Source: neuron fitness (S3), "layer-level fitness".
    """

    level = "full"

    def compute(self, weight: Moments, weight_gradient: Moments, activation: Magnitude) -> Tensor:
        return fitness(weight, weight_gradient, activation).max()
