"""Sums from which norms follow, as an exponential average."""

from __future__ import annotations

from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.recent import Recent


class RecentMoments(Recent, Moments):
    """Σx and Σx² over rows, as an exponential average over measured steps."""
