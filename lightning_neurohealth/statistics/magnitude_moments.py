"""Sums from which mean and spread of absolute values follow."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.statistics.base import Partials
from lightning_neurohealth.statistics.moments import Moments


class MagnitudeMoments(Moments):
    """Σ\\|x\\| and Σx² over rows; and the deviations of \\|x\\| within batches."""

    def reduce(self, x: Tensor) -> Partials:
        return super().reduce(x.abs())
