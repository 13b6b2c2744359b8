"""What one rank brings of a layer that is split over ranks, among the states of the whole layer."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.sharding import Part
from lightning_neurohealth.statistics.base import EMPTY, Partials, Statistic


def spread(statistic: Statistic, partials: Partials, part: Part) -> Partials:
    """Partials of the columns of ``part`` as those of all columns; the others stay empty here.

    Sums that all columns share, such as the number of rows, count on one of the ranks that split them.
    """
    wide: Partials = {}
    for name, partial in partials.items():
        state, kind = getattr(statistic, name), statistic.kinds[name]
        if isinstance(partial, Tensor) and partial.dim() and len(partial) == part.width:
            whole = state.new_full(state.shape, EMPTY[kind])
            whole[part.columns] = (partial * part.weight if kind == "sum" else partial).to(state.dtype)
            wide[name] = whole
        else:
            wide[name] = partial if part.counts or kind != "sum" else partial * 0
    return wide
