"""The layers of a network as a sequence, and as the streams that run through it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from lightning_neurohealth.layers import Layer

FEW_CARRY = 10.0
"""Root mean square in the median: spreads that differ less than tenfold from neuron to neuron give at most 7."""


@dataclass(frozen=True)
class Stream:
    """Hidden layers each of which reads the one before, from one that reads the input or what a norm wrote.

    Attributes:
        names: The layers, in the order of execution.
        scales: Activation scale of each, above 0.
    """

    names: tuple[str, ...]
    scales: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Scale of the last layer in that of the first."""
        return self.scales[-1] / self.scales[0]

    @property
    def links(self) -> Iterator[tuple[float, float]]:
        """Scale of a layer and of the next."""
        return pairwise(self.scales)

    def grown(self, factor: float) -> int:
        """Layers at the end of the stream in a row that are each ``factor`` times the one before, or more."""
        row = 0
        for before, after in self.links:
            row = row + 1 if after >= factor * before else 0
        return row


def carried(scale: Tensor, std: Tensor | None) -> Tensor:
    """Spread with which a layer feeds the next: its scale, the median over neurons; but where most neurons are stuck or
    seldom fire the few others carry all, and the root mean square over neurons tells."""
    if std is None:
        return scale
    size = std.square().mean().sqrt()
    return size if float(size) > FEW_CARRY * float(scale) else scale


def streams(layers: dict[str, Layer], activation_scale: dict[str, Tensor]) -> dict[str, Stream]:
    """For each hidden layer the stream that leads to it: of several layers that it reads, through the largest.

    Gates are left out, since what they multiply sets the scale, heads of attention, which average it away over many
    places, and layers whose scale is exactly 0: a branch
    that starts at zero (a residual gamma, LoRA's B) is well, and a layer of which most neurons are dead is judged by
    that.
    """
    scales = {
        name: float(scale)
        for name, scale in activation_scale.items()
        if name in layers
        and not (layers[name].output or layers[name].gate or layers[name].channels)
        and 0 < float(scale) < math.inf
    }
    found: dict[str, Stream] = {}
    for name in sorted(scales, key=lambda name: layers[name].order):
        before = [source for source in layers[name].sources if source in found and source != name]
        if before:
            largest = found[max(before, key=scales.__getitem__)]
            found[name] = Stream((*largest.names, name), (*largest.scales, scales[name]))
        else:
            found[name] = Stream((name,), (scales[name],))
    return found
