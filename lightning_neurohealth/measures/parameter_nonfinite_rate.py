"""Parameters that hold NaN or Inf."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts


class ParameterNonfiniteRate(Measure):
    """1 where the parameter's norm is not finite at the end of the window, else 0, one number a parameter.

    Source: technical deep dive (S2), "numerical stability".
    """

    level = "economy"
    percent = True

    def compute(self, parameter: NonFiniteCounts) -> Tensor:
        return parameter.bad / parameter.rows
