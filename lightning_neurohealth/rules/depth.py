"""The layers of a network as a sequence, and as the streams that run through it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from lightning_neurohealth.layers import Layer


@dataclass(frozen=True)
class Stream:
    """Hidden layers each of which reads the one before, from one that reads the input or what a norm wrote.

    Attributes:
        names: The layers, in the order of execution.
        scales: Activation scale of each, above 0 but for the last.
    """

    names: tuple[str, ...]
    scales: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Scale of the last layer in that of the first; NaN where the first has none."""
        return self.scales[-1] / self.scales[0] if self.scales[0] else math.nan

    @property
    def links(self) -> Iterator[tuple[float, float]]:
        """Scale of a layer and of the next."""
        return pairwise(self.scales)

    def grown(self, factor: float) -> int:
        """Layers at the end of the stream in a row that are each ``factor`` times the one before, or more."""
        row = 0
        for before, after in self.links:
            row = row + 1 if before > 0 and after >= factor * before else 0
        return row


def streams(layers: dict[str, Layer], activation_scale: dict[str, Tensor]) -> dict[str, Stream]:
    """For each hidden layer the stream that leads to it: of several layers that it reads, through the largest.

    Gates are left out, since what they multiply sets the scale, and so are layers without any scale that others go on
    from: a branch that starts at zero (a residual gamma, LoRA's B) has an honest 0.
    """
    scales = {
        name: float(scale)
        for name, scale in activation_scale.items()
        if name in layers and not layers[name].output and not layers[name].gate and math.isfinite(float(scale))
    }
    found: dict[str, Stream] = {}
    for name in sorted(scales, key=lambda name: layers[name].order):
        before = [s for s in layers[name].sources if s in found and scales[s] > 0 and s != name]
        if before:
            largest = found[max(before, key=scales.__getitem__)]
            found[name] = Stream((*largest.names, name), (*largest.scales, scales[name]))
        else:
            found[name] = Stream((name,), (scales[name],))
    return found
