"""What a neuron is worth to its layer."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.magnitude import Magnitude
from lightning_neurohealth.statistics.moments import Moments


class Fitness(Measure):
    """0.4 ‖w_i‖₂ + 0.4 ‖∂L/∂w_i‖₂ + 0.2 E |a_i|, each divided by its largest in the layer, ``[neurons]``, no unit,
    between 0 and 1; the gradient's norm is the root mean square over the measured steps. A part that is 0 in the whole
    layer counts 0. Only for layers that have all three.

    Near 0: a candidate for pruning or recycling. 1: the strongest of its layer in everything. By the largest and not by
    the mean, which would give every layer a mean fitness of exactly 1; so one outlier makes all others look weak.

    Source: neuron fitness (S3), whose norms run over the wrong axis.
    """

    level = "full"

    def compute(self, weight: Moments, weight_gradient: Moments, activation: Magnitude) -> Tensor:
        return fitness(weight, weight_gradient, activation)


def fitness(weight: Moments, weight_gradient: Moments, activation: Magnitude) -> Tensor:
    """Fitness of each neuron; factors that all neurons share fall out."""
    norm, gradient = (_of_largest(part.squares.sqrt()) for part in (weight, weight_gradient))
    return 0.4 * norm + 0.4 * gradient + 0.2 * _of_largest(activation.sums)


def _of_largest(part: Tensor) -> Tensor:
    largest = part.max()
    return torch.where(largest == 0, 0.0, part / largest)
