"""What an ablation has found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lightning_neurohealth.interventions.silencer import Group


@dataclass(frozen=True)
class LayerAblation:
    """Silenced neurons of one layer.

    Attributes:
        groups: What was silenced at a time, each a tuple of neurons.
        change: Loss with the group silenced minus the loss without, ``[groups]``, in units of the loss; the mean over
            batches, each weighted by its rows. Positive: the group is of use. 0: the loss does not notice. Negative:
            the loss is lower without it.
        low, high: Ends of the 95 % confidence interval over batches, Student's t; infinite with a single batch.
    """

    groups: tuple[Group, ...]
    change: Tensor
    low: Tensor
    high: Tensor

    @property
    def neurons(self) -> Tensor:
        """The silenced neurons where each was silenced alone, ``[groups]``.

        Raises:
            ValueError: There are larger groups.
        """
        if any(len(group) > 1 for group in self.groups):
            raise ValueError("neurons were silenced in groups; see .groups")
        return torch.tensor([group[0] for group in self.groups])

    @property
    def noticed(self) -> Tensor:
        """Groups whose interval does not hold 0, ``[groups]``, bool."""
        return (self.low > 0) | (self.high < 0)


@dataclass(frozen=True)
class Ablation(Mapping[str, LayerAblation]):
    """Ablated neurons by layer, in the order of execution.

    Attributes:
        loss: The loss with nothing silenced.
        batches, rows: How much data it was.
        forwards: How many forwards it took.
        seconds: How long.
    """

    layers: Mapping[str, LayerAblation]
    loss: float
    batches: int
    rows: int
    forwards: int
    seconds: float

    def __getitem__(self, layer: str) -> LayerAblation:
        if layer not in self.layers:
            raise KeyError(f"no neuron of {layer!r} was ablated; there are {', '.join(self.layers)}")
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def rank(self) -> list[tuple[str, Group, float]]:
        """Layer, group and change of the loss over all layers, what the loss misses least first; NaN last."""
        found = [
            (name, group, float(change))
            for name, layer in self.layers.items()
            for group, change in zip(layer.groups, layer.change.tolist(), strict=True)
        ]
        return sorted(found, key=lambda entry: (entry[2] != entry[2], entry[2]))

    def __str__(self) -> str:
        lines = [f"loss {self.loss:.4g} over {self.rows:,} rows; what silencing a neuron adds to it:"]
        for name, layer in self.layers.items():
            lines.append(
                f"  {name}: {float(layer.change.min()):+.3g} to {float(layer.change.max()):+.3g}, "
                f"{int(layer.noticed.sum())} of {len(layer.groups)} are noticed"
            )
        return "\n".join(lines)


def intervals(changes: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and 95 % interval of ``changes`` ``[batches, groups]``, batches weighted by their rows."""
    weights = torch.tensor(rows, dtype=torch.float64).unsqueeze(1) / sum(rows)
    mean = (weights * changes).sum(0)
    batches = len(changes)
    if batches == 1:
        infinite = torch.full_like(mean, math.inf)
        return mean, -infinite, infinite
    error = ((weights * (changes - mean)).square().sum(0) * batches / (batches - 1)).sqrt()
    reach = students_t(batches - 1) * error
    return mean, mean - reach, mean + reach


@lru_cache(maxsize=64)
def students_t(freedom: int, level: float = 0.95) -> float:
    """The t that a Student variable with ``freedom`` degrees stays within with probability ``level``, either side.

    With t = √ν tan θ, the density of θ is proportional to cos^(ν−1) θ on [0, π/2].
    """
    angles = torch.linspace(0, math.pi / 2, 200_001, dtype=torch.float64)
    area = torch.cumulative_trapezoid(angles.cos() ** (freedom - 1), angles)
    index = int(torch.searchsorted(area, level * area[-1]))
    return math.sqrt(freedom) * math.tan(float(angles[index + 1]))
