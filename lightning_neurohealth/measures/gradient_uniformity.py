"""How evenly the gradient is spread over a layer's weights."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.magnitude_moments import MagnitudeMoments


class GradientUniformity(Measure):
    """mean |g| / std |g| over the elements g of ∂L/∂W and the measured steps, a scalar, no unit; 0 where there is no
    gradient, infinite where all are of one size.

    1.32 for Gaussian noise, less where few weights take most of the gradient. It says nothing about noise across steps:
    no rule reads it.

    Source: technical deep dive (S2), there called "gradient signal-to-noise ratio".
    """

    level = "full"

    def compute(self, weight_gradient: MagnitudeMoments) -> Tensor:
        mean = weight_gradient.mean.mean()
        return torch.where(mean == 0, 0.0, mean / weight_gradient.pooled_variance.sqrt())
