"""Activations that grow from layer to layer, or from window to window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.depth import along_the_depth
from lightning_neurohealth.window import Past


@dataclass(frozen=True, kw_only=True)
class ExplodingActivations(RunRule):
    """What it finds: the spread of activations over data grows more than 1,000-fold along the depth, or at least
    threefold a layer over four layers in a row, or grows without bound from window to window.

    Why it hurts: the next step is an overflow, and gradients are as large as what they are multiplied with.

    Remedies: initialise for the activation, normalisation, residual scaling, a lower learning rate, gradient clipping.

    Sources: activation monitoring (S1), whose absolute maxima depend on the scale of the data.

    Attributes:
        serious: Growth from the first layer to any other.
        block: Growth from a layer to the next that counts as one of the row.
        blocks: How many in a row.
        growth: Growth of one layer against its own first window, while it still grows.
    """

    serious: float = 1e3
    critical: float = 1e6
    block: float = 3.0
    blocks: int = 4
    growth: float = 1e3

    def judge(
        self, layers: dict[str, Layer], activation_scale: dict[str, Tensor], past: list[Past]
    ) -> Iterable[Verdict]:
        depth = along_the_depth(layers, activation_scale)
        if not depth or depth[0][1] == 0:
            return
        start, run = depth[0][1], 0
        for (_, before), (name, scale) in pairwise(depth):
            run = run + 1 if before > 0 and scale >= self.block * before else 0
            if scale > self.serious * start or run >= self.blocks:
                largest = max(scale for _, scale in depth) / start
                yield self._verdict(
                    largest,
                    name,
                    f"activations grow from {start:.2g} in {depth[0][0]} to {largest * start:.2g}, "
                    f"{largest:.3g}-fold along "
                    f"{len(depth)} layers",
                    "each layer passes on a multiple of what it gets: weights too large for the activation",
                    f"initialise the layers up to {name} for their activation, or add a normalisation or residual "
                    "scaling",
                )
                return
        yield from self._over_windows(dict(depth), past)

    def _over_windows(self, now: dict[str, float], past: list[Past]) -> Iterable[Verdict]:
        if len(past) < 2:
            return
        # a layer that starts near 0 may grow a thousandfold and be well: it is held against the largest at the start
        largest = max(float(scale) for scale in past[0].measures["activation_scale"].values())
        for name, scale in now.items():
            before = [
                float(p.measures["activation_scale"][name]) for p in past if name in p.measures["activation_scale"]
            ]
            if len(before) >= 2 and 0 < before[-2] < before[-1] < scale and scale > self.growth * largest:
                yield self._verdict(
                    scale / before[0],
                    name,
                    f"activations of {name} have grown {scale / before[0]:.3g}-fold since the first window and "
                    "still grow",
                    "the weights grow without bound",
                    f"lower the learning rate, clip gradients, add weight decay or a normalisation at {name}",
                )
                return

    def _verdict(self, value: float, layer: str, message: str, cause: str, remedy: str) -> Verdict:
        critical = value > self.critical
        return Verdict(
            severity=Severity.CRITICAL if critical else Severity.SERIOUS,
            value=value,
            threshold=self.critical if critical else self.serious,
            layer=layer,
            message=message,
            cause=cause,
            remedy=remedy,
            certain=critical,
        )
