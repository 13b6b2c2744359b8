"""What can be summed over the rows of a tensor in C."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum, auto


class What(IntEnum):
    """What is added up, in the order of ``sums.c``; a number for each neuron, but where it says "one number"."""

    ROWS = 0
    """One number: 1 a row."""
    FREEDOM = auto()
    """One number: the rows of a tensor but one."""
    SUM = auto()
    SQUARE = auto()
    WITHIN = auto()
    """Σ(x − mean over the rows of the tensor)²."""
    MAGNITUDE = auto()
    """The absolute of x."""
    ABOVE = auto()
    """Rows on which x > low."""
    AT_MOST = auto()
    """Rows on which x ≤ low."""
    AT_LEAST = auto()
    """Rows on which x ≥ low."""
    OUTSIDE = auto()
    """Rows on which x ≤ low or x ≥ high; NaN for an end that is not there."""
    NEAR = auto()
    """Rows on which the absolute of x is ≤ low."""
    NONZERO = auto()
    """Rows on which x is not 0."""
    LIVE = auto()
    """One number: rows on which x of some neuron is not 0."""
    BAD = auto()
    """Rows on which x is NaN or infinite."""
    FIRST = auto()
    """One number: the least step at which some x was; a minimum."""
    KNOWN = auto()
    """Rows on which x is not NaN."""
    SUM_OF_KNOWN = auto()
    """x on them."""
    LOWEST = auto()
    """The least x, a minimum; NaN is less than all."""
    HIGHEST = auto()
    """The greatest x, a maximum; NaN is greater than all."""
    WITHIN_MAGNITUDES = auto()
    """As WITHIN, of the absolute of x."""
    SAMPLES = auto()
    """One number: 1 a sample."""
    SPATIAL = auto()
    """The absolute of Σx over the rows of a sample."""
    HISTOGRAM = auto()
    """Rows in each bin, a number for each neuron and bin: even bins from low on, which are high wide, or half octaves,
    of which high are left out at the lower end."""
    SLOPE_OF_SIGMOID = auto()
    """The absolute of f'(x)."""
    SLOPE_OF_TANH = auto()
    SLOPE_OF_SILU = auto()
    SLOPE_OF_GELU = auto()
    SLOPE_OF_GELU_TANH = auto()
    SIZE_OF_SQUARES = auto()
    """Two numbers: Σx² over all neurons, and how many x those are."""
    SIZE_OF_MAGNITUDES = auto()
    """The same of the absolute of x."""


OF_ALL = {
    *(What.ROWS, What.FREEDOM, What.LIVE, What.FIRST, What.SAMPLES),
    *(What.SIZE_OF_SQUARES, What.SIZE_OF_MAGNITUDES),
}
"""What is not of single neurons."""


@dataclass(frozen=True)
class Sum:
    """One sum over rows.

    Attributes:
        what: What is added up.
        low, high: What x is compared with, if it is.
        edges: Of bins, ascending; there is one bin more.
        weight: What a sum over rows is multiplied with, if it is a plain one: ROWS, SUM, SQUARE.
    """

    what: What
    low: float = math.nan
    high: float = math.nan
    weight: float = 1.0
    edges: tuple[float, ...] = ()


ROWS, FREEDOM = Sum(What.ROWS), Sum(What.FREEDOM)
