"""Spread of learned slopes."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.pooled_moments import PooledMoments


class PreluSlopeStd(Measure):
    """Population standard deviation of the learned negative slopes of a layer's PReLU at the end of the window, a
    scalar, no unit.

    0 for a single slope, and at the start. Large: channels have learned different activations.

    Source: advanced activation techniques (S4).
    """

    def compute(self, slope_parameter: PooledMoments) -> Tensor:
        return slope_parameter.variance.sqrt()
