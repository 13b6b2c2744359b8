"""What a step brings to states, for the functions in C."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_double, c_int64, c_void_p
from typing import Literal

from torch import Tensor

KINDS = {"sum": 0, "min": 1, "max": 2}


class _Brought(Structure):
    _fields_ = (
        ("states", c_void_p),
        ("step", c_void_p),
        ("count", c_int64),
        ("kind", c_int64),
        ("fading", c_double),
    )


class Brought:
    """Vectors of states and what a step brings to them, all float64 and behind one another in memory.

    Args:
        vectors: Of each what its states are; ``None`` for states where what it brings is only to be forgotten.
    """

    def __init__(self, vectors: Sequence[tuple[Literal["sum", "min", "max"], Tensor | None, Tensor]]) -> None:
        self.count = len(vectors)
        self._tensors = vectors  # their memory must stay
        self.array = (_Brought * len(vectors))(
            *(
                _Brought(None if states is None else states.data_ptr(), step.data_ptr(), len(step), KINDS[kind], 1.0)
                for kind, states, step in vectors
            )
        )

    def fade(self, place: int, factor: float) -> None:
        """Multiply the states at ``place`` with it before the next step is added."""
        self.array[place].fading = factor
