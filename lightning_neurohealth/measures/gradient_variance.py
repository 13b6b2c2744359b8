"""Variance of a layer's gradient."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class GradientVariance(Measure):
    """Population variance of ∂L/∂a over rows and neurons together, a scalar, in squared units of the gradient.

    Collapsing towards the input: gradients vanish.

    Sources: neuron health summary (S0), Glorot and Bengio (2010).
    """

    def compute(self, activation_gradient: Moments) -> Tensor:
        return activation_gradient.pooled_variance
