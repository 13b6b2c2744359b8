"""Share of its layer's activity that a neuron has."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.magnitude import Magnitude


class Dormancy(Measure):
    """E |a_i| / mean over neurons of E |a|, ``[neurons]``, no unit; 1 is the average neuron, 0 a silent one. All zero
    where the whole layer is.

    At or under 0.025: dormant. One outlier neuron raises the mean and makes all others look dormant, so judge it beside
    the layer's upper quantiles.

    Source: Sokar et al. (2023), "The dormant neuron phenomenon in deep reinforcement learning".
    """

    def compute(self, activation: Magnitude) -> Tensor:
        return torch.where(activation.sums.mean() == 0, 0.0, activation.sums / activation.sums.mean())
