"""Activations that grow from layer to layer, or from window to window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.depth import Stream, carried, streams
from lightning_neurohealth.window import Past


@dataclass(frozen=True, kw_only=True)
class ExplodingActivations(RunRule):
    """What it finds: the spread of activations over data grows more than 1,000-fold along the depth, or at least
    threefold a layer over four layers in a row, or grows without bound from window to window. A norm begins a new
    count: it sets the scale anew.

    Why it hurts: the next step is an overflow, and gradients are as large as what they are multiplied with.

    Remedies: initialise for the activation, normalisation, residual scaling, a lower learning rate, gradient clipping.

    Sources: activation monitoring (S1), whose absolute maxima depend on the scale of the data. A loss that falls is no
    excuse for growth that was there at the first step: it started too high. Where numbers have overflowed since, the
    first step is all that can be judged, and tells why.

    Attributes:
        serious: Growth from the first layer to any other.
        block: Growth from a layer to the next that counts as one of the row.
        blocks: How many in a row.
        growth: Growth of one layer against the largest at the start, while it still grows.
    """

    serious: float = 1e3
    critical: float = 1e6
    block: float = 3.0
    blocks: int = 4
    growth: float = 1e3

    def judge(
        self,
        layers: dict[str, Layer],
        initial: dict[str, Any],
        activation_scale: dict[str, Tensor],
        past: list[Past],
        activation_std: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        largest = self._steepest(layers, activation_scale, activation_std or {})
        at_start = self._steepest(layers, initial.get("activation_scale", {}), initial.get("activation_std", {}))
        broken = not all(math.isfinite(float(scale)) for scale in activation_scale.values())
        if broken and at_start is not None:
            largest = at_start
        if largest is None:
            yield from self._over_windows(layers, activation_scale, past)
            return
        start, end = largest.scales[0], largest.scales[-1]
        first = next(
            name
            for i, name in enumerate(largest.names)
            if largest.scales[i] > self.serious * start or self._explodes(_up_to(largest, i))
        )
        yield self._verdict(
            end / start,
            first,
            f"activations grow from {start:.2g} in {largest.names[0]} to {end:.2g} in {largest.names[-1]}, "
            f"{end / start:.3g}-fold along {len(largest.names)} layers",
            "each layer passes on a multiple of what it gets: weights too large for the activation",
            f"initialise the layers up to {first} for their activation, or add a normalisation or residual scaling",
            certain=at_start is not None,
            immediate=broken and at_start is not None,
        )

    def _steepest(self, layers: dict[str, Layer], scales: dict[str, Tensor], stds: dict[str, Tensor]) -> Stream | None:
        grown = []
        for found in streams(layers, scales).values():
            first = found.names[0]
            stream = Stream(found.names, (float(carried(scales[first], stds.get(first))), *found.scales[1:]))
            if self._explodes(stream):
                grown.append(stream)
        return max(grown, key=lambda stream: stream.ratio, default=None)

    def _explodes(self, stream: Stream) -> bool:
        return stream.ratio > self.serious or stream.grown(self.block) >= self.blocks

    def _over_windows(
        self, layers: dict[str, Layer], activation_scale: dict[str, Tensor], past: list[Past]
    ) -> Iterable[Verdict]:
        if len(past) < 2:
            return
        # a layer that starts near 0 may grow a thousandfold and be well: it is held against the largest at the start
        largest = max(float(scale) for scale in past[0].measures["activation_scale"].values())
        for name, value in activation_scale.items():
            if name not in layers or layers[name].output:
                continue
            scale = float(value)
            if not scale > self.growth * largest:
                continue
            before = [
                float(p.measures["activation_scale"][name]) for p in past if name in p.measures["activation_scale"]
            ]
            if len(before) >= 2 and 0 < before[-2] < before[-1] < scale:
                yield self._verdict(
                    scale / before[0],
                    name,
                    f"activations of {name} have grown {scale / before[0]:.3g}-fold since the first window and "
                    "still grow",
                    "the weights grow without bound",
                    f"lower the learning rate, clip gradients, add weight decay or a normalisation at {name}",
                    immediate=True,  # three windows have shown it
                )
                return

    def _verdict(
        self,
        value: float,
        layer: str,
        message: str,
        cause: str,
        remedy: str,
        certain: bool = False,
        immediate: bool = False,
    ) -> Verdict:
        critical = value > self.critical
        return Verdict(
            severity=Severity.CRITICAL if critical else Severity.SERIOUS,
            value=value,
            threshold=self.critical if critical else self.serious,
            layer=layer,
            message=message,
            cause=cause,
            remedy=remedy,
            certain=critical or certain,
            immediate=immediate,
        )


def _up_to(stream: Stream, index: int) -> Stream:
    return Stream(stream.names[: index + 1], stream.scales[: index + 1])
