"""Variety of worth among a layer's neurons."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.fitness import fitness
from lightning_neurohealth.statistics.magnitude import Magnitude
from lightning_neurohealth.statistics.moments import Moments


class FitnessVariance(Measure):
    """Population variance over neurons of ``fitness``, a scalar.

    0: all are alike, a single neuron among them. Large: some carry the layer and others are idle.

    Source: neuron fitness (S3), "layer-level fitness".
    """

    level = "full"

    def compute(self, weight: Moments, weight_gradient: Moments, activation: Magnitude) -> Tensor:
        return fitness(weight, weight_gradient, activation).var(correction=0)
