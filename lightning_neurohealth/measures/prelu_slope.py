"""Mean learned slope."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.pooled_moments import PooledMoments


class PreluSlope(Measure):
    """Mean of the learned negative slopes of a layer's PReLU at the end of the window, a scalar, no unit.

    0: it has become a ReLU. 1: it has become linear. torch starts at 0.25.

    Sources: advanced activation techniques (S4), He et al. (2015).
    """

    def compute(self, slope_parameter: PooledMoments) -> Tensor:
        return slope_parameter.mean
