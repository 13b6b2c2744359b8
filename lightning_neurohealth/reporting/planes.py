"""Many numbers in few bytes, as the page's script reads them."""

from __future__ import annotations

import torch
from torch import Tensor


class Planes:
    """Numbers in single precision with fewer bits: first the upper byte of each, then the middle ones, then the lower.

    Equal bytes stand together like this, which is what compression needs. NaN, infinity, 0 and the order of magnitude
    are kept.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._size = 0

    def put(self, values: Tensor, bits: int = 12) -> list[int]:
        """Where they begin, and their shape.

        Args:
            values: Any shape.
            bits: Of the fraction that are kept, up to 15; 12 are three and a half digits, 7 are two.
        """
        place = [self._size, *values.shape]
        self._parts.append(_rounded(values.float().flatten(), 23 - bits))
        self._size += values.numel()
        return place

    def to_bytes(self) -> bytes:
        """All of them, three bytes each."""
        whole = torch.cat(self._parts) if self._parts else torch.zeros(0, dtype=torch.int32)
        planes = [((whole >> shift) & 255).to(torch.uint8) for shift in (24, 16, 8)]
        return torch.cat(planes).numpy().tobytes()


def _rounded(values: Tensor, dropped: int) -> Tensor:
    """Bits of the nearest number whose lower bits are 0."""
    values = values.where(~values.isnan(), torch.nan)  # of many spellings one that does not overflow
    return (values.contiguous().view(torch.int32) + (1 << (dropped - 1))) & -(1 << dropped)
