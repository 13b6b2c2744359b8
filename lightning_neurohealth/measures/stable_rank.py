"""How far the largest direction of a layer's activations outweighs the others."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.covariance import Covariance


class StableRank(Measure):
    """‖A‖_F² / ‖A‖₂² of the centred activations A, which is Σ λ / max λ of their covariance, a scalar between 1 and the
    number of neurons; sampled as for ``effective_rank``. 0 where nothing varies, NaN where an activation was not
    finite.

    1: all neurons move along one line. Directions of small variance, which count in ``effective_rank``, do not here.

    Sources: Rudelson and Vershynin (2007); Dohare et al. (2024) on the loss of plasticity.
    """

    level = "full"

    def compute(self, activation: Covariance) -> Tensor:
        variances = activation.spectrum
        largest = variances.max()
        return torch.where(largest == 0, 0.0, variances.sum() / largest)
