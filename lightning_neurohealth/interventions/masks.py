"""Masks: which neurons are to go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Masks(Mapping[str, Tensor]):
    """Layer to a bool tensor ``[neurons]``, True for a neuron that is to go.

    Raises:
        TypeError: A mask is no bool tensor of one axis.
    """

    layers: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, mask in self.layers.items():
            if not isinstance(mask, Tensor) or str(mask.dtype) != "torch.bool" or mask.dim() != 1:
                what = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
                raise TypeError(f"masks[{name!r}]: must be a bool tensor [neurons], got {what}")

    def __getitem__(self, layer: str) -> Tensor:
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def count(self) -> int:
        """How many neurons are to go."""
        return sum(int(mask.sum()) for mask in self.layers.values())
