"""In how many directions a layer's activations vary."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.covariance import Covariance


class EffectiveRank(Measure):
    """exp(−Σ p log p), p the singular values of the activations' covariance over their sum, a scalar between 1 and the
    number of neurons; of at most 256 neurons, evenly spaced, and 2,048 rows a batch. 0 where nothing varies, NaN where
    an activation was not finite.

    Small beside the width, or falling while training goes on: the layer loses plasticity, its neurons repeat each
    other. It cannot exceed the number of rows less one.

    Sources: Roy and Vetterli (2007); Kumar et al. (2021), Dohare et al. (2024) on the loss of plasticity.
    """

    level = "full"

    def compute(self, activation: Covariance) -> Tensor:
        variances = activation.spectrum
        total = variances.sum()
        return torch.where(total == 0, 0.0, torch.special.entr(variances / total).sum().exp())
