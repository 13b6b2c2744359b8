"""How a layer's gradients compare to those of the next one."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class GradientVarianceRatio(Measure):
    """Variance of ∂L/∂a over rows and neurons of a layer / that of the next layer in the order of execution, a scalar,
    no unit; the last layer has none. NaN where the next one has no gradient at all.

    Around 1: gradients flow. Below 1 from layer to layer: they vanish towards the input, by the product of the ratios;
    above 1: they explode. Layers on different branches are neighbours too, so single ratios say little.

    Sources: technical deep dive (S2), which reads it the other way round, Glorot and Bengio (2010).
    """

    def compute(self, activation_gradient: Moments, next_activation_gradient: Moments) -> Tensor:
        return activation_gradient.pooled_variance / next_activation_gradient.pooled_variance
