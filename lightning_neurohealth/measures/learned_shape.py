"""The shape that an activation has learned."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.curve import Curve


class LearnedShape(Measure):
    """f(z) of an activation that learns its shape (PReLU, AdaptiveActivation, ShapeLearningActivation), at even places
    of [−3, 3] at the end of the window, ``[places]``; of the slopes of a PReLU the mean.

    A straight line: the layer has become linear. ``report.plot("learned_shape")`` draws it.

    Source: advanced activation techniques (S4).
    """

    def compute(self, learned_shape: Curve) -> Tensor:
        return learned_shape.values
