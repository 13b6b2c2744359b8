"""Size of a parameter's gradient."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class GradientNorm(Measure):
    """Root mean square over measured steps of ‖∂L/∂θ‖₂, one number a parameter (a layer shows its weight's), after
    unscaling, before clipping.

    0 at every step: nothing reaches the parameter.

    Sources: neuron health summary (S0), advanced activation techniques (S4).
    """

    level = "economy"

    def compute(self, parameter_gradient: Moments) -> Tensor:
        return (parameter_gradient.squares / parameter_gradient.rows).sqrt()
