"""Sums from which mean and spread of absolute values follow."""

from __future__ import annotations

from lightning_neurohealth.native.sums import Sum, What
from lightning_neurohealth.statistics.base import Partials
from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.rows import Rows


class MagnitudeMoments(Moments):
    """Σ\\|x\\| and Σx² over rows; and the deviations of \\|x\\| within batches."""

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.magnitudes(), "squares": rows.squares()}

    def native_sums(self) -> dict[str, Sum]:
        return {**super().native_sums(), "sums": Sum(What.MAGNITUDE), "within": Sum(What.WITHIN_MAGNITUDES)}
