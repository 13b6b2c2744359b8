"""Mean slope of the activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.slopes import Slopes


class Slope(Measure):
    """E |f'(z)| over the rows of the window, ``[neurons]``, no unit.

    Near 0: saturated or dead, whatever comes back is lost here. Exactly 0: no gradient passed on any row.

    Source: neuron health summary (S0), "derivative magnitude".
    """

    def compute(self, preactivation: Slopes) -> Tensor:
        return preactivation.sums / preactivation.rows
