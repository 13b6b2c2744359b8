"""How far a learned activation is from a straight line."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.pooled_moments import PooledMoments


class Nonlinearity(Measure):
    """Spread of the slope f'(z) of an activation that learns its shape (PReLU, AdaptiveActivation,
    ShapeLearningActivation), over even places of [−3, 3], in its root mean square: √(Var f' / E f'²) at the end of the
    window, a scalar, no unit.

    0: it has become a straight line, and the layer is linear. ReLU has 0.71, a PReLU at 0.25 has 0.51, 1 is the most.

    Source: advanced activation techniques (S4).
    """

    def compute(self, learned_slope: PooledMoments) -> Tensor:
        variance = learned_slope.variance
        return (variance / (variance + learned_slope.mean**2)).sqrt()
