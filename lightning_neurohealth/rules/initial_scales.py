"""How scales stand along the depth at the first step, as far as the layers' own weights are to blame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.depth import Stream, streams


@dataclass(frozen=True)
class Chain:
    """Layers of which each reads the one before, from the first.

    Attributes:
        names: The layers, in the order of execution.
        scales: Scale of each.
        shares: Scale of each in that of the first, as far as the weights explain it.
    """

    names: tuple[str, ...]
    scales: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def off(self) -> float:
        """Factor between the ends, at least 1."""
        return max(self.shares[-1], 1 / self.shares[-1])

    def culprit(self, off: float) -> tuple[str, bool]:
        """The layer that alone makes half of what is off, with True; else the first beyond ``off``."""
        steps = {n: abs(math.log(b / a)) for n, (a, b) in zip(self.names[1:], pairwise(self.shares), strict=True)}
        largest = max(steps, key=steps.__getitem__)
        if steps[largest] >= 0.5 * sum(steps.values()) and (len(steps) > 2 or steps[largest] >= math.log(off)):
            return largest, True
        return next(n for n, s in zip(self.names, self.shares, strict=True) if max(s, 1 / s) >= off), False


def explained(stream: Stream, init_scale: Mapping[str, float]) -> Chain:
    """``stream`` with what its weights explain: of growth as much as ``init_scale``, of a fall down to a third of it,
    since slopes and the correlation of neurons shrink the spread too."""
    total, shares = 1.0, [1.0]
    for name, (before, after) in zip(stream.names[1:], stream.links, strict=True):
        weights = init_scale.get(name, math.nan)
        if math.isfinite(weights) and before > 0:
            total *= max(min(after / before, max(1.0, weights)), min(1.0, weights / 3), 1e-30)
        shares.append(total)
    return Chain(stream.names, stream.scales, tuple(shares))


def faulty_chain(
    layers: dict[str, Layer],
    initial: Mapping[str, Tensor],
    now: Mapping[str, Tensor],
    init_scale: Mapping[str, float],
    off: float,
) -> Chain | None:
    """The chain whose activation scale is the most off at the start, by ``off`` or more, and is still so now.

    A fall that a layer behind or the output makes good harms nothing.
    """
    before, after = streams(layers, dict(initial)), streams(layers, dict(now))
    found = []
    for name, stream in before.items():
        chain, ratios = explained(stream, init_scale), [s.ratio for s in (stream, after.get(name)) if s is not None]
        grows = chain.shares[-1] >= off and all(ratio >= off for ratio in ratios)
        falls = chain.shares[-1] <= 1 / off and all(ratio <= 1 / off for ratio in ratios)
        if grows or (falls and not _made_good(stream, before, layers, initial, off)):
            found.append(chain)
    return max(found, key=lambda chain: chain.off, default=None)


def _made_good(
    stream: Stream, found: dict[str, Stream], layers: dict[str, Layer], scales: Mapping[str, Tensor], off: float
) -> bool:
    behind = {name for name, other in found.items() if other.names[: len(stream.names)] == stream.names}
    outputs = {name for name, layer in layers.items() if layer.output and layer.sources & behind and name in scales}
    return any(float(scales[name]) > stream.scales[0] / off for name in behind | outputs)


def steady_chain(names: tuple[str, ...], initial: list[float], now: list[float], off: float) -> Chain | None:
    """Numbers that are off by ``off`` or more from the first to the last, at the start and now, and not by a single
    step: the middle one of the steps, taken as often as there are steps, is as far off."""
    for sizes in (initial, now):
        if not all(0 < size < math.inf for size in sizes):
            return None
        steps = [math.log(after / before) for before, after in pairwise(sizes)]
        if min(abs(median(steps) * len(steps)), abs(math.log(sizes[-1] / sizes[0]))) < math.log(off):
            return None
    return Chain(names, tuple(initial), tuple(size / initial[0] for size in initial))
