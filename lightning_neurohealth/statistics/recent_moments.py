"""Sums from which norms follow, as an exponential average."""

from __future__ import annotations

from lightning_neurohealth.statistics.moments import Moments


class RecentMoments(Moments):
    """Σx and Σx² over rows, as an exponential average over measured steps; sums and number of rows fade alike."""

    decay = 0.9
