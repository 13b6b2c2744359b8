"""Size of the whole gradient."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.series import Series


class GlobalGradientNorm(Measure):
    """‖∂L/∂θ‖₂ over all parameters, after unscaling, before clipping: the points of the window, ``[points]``.

    Compare it with its own past; what is large depends on the loss. Healthy regression has norms of 9,000.

    Source: Pascanu et al. (2013).
    """

    level = "economy"

    def compute(self, global_gradient: Series) -> Tensor:
        return global_gradient.points
