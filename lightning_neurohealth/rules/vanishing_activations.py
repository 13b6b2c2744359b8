"""Activations that shrink from layer to layer until nothing of the input is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.depth import along_the_depth


@dataclass(frozen=True, kw_only=True)
class VanishingActivations(RunRule):
    """What it finds: the spread of activations over data (median over neurons) falls geometrically along the depth,
    to less than 1e-5 of the first layer's.

    Why it hurts: the last layers see the same thing whatever the input is, so nothing can be learned from it.

    Remedies: initialise for the activation, residual connections, normalisation, ReLU-like activations.

    Sources: activation monitoring (S1), whose absolute standard deviation says nothing without the scale of the input.
    """

    warning: float = 1e-4
    serious: float = 1e-5
    critical: float = 1e-8
    falls: int = 3

    def judge(self, layers: dict[str, Layer], activation_scale: dict[str, Tensor]) -> Iterable[Verdict]:
        depth = along_the_depth(layers, activation_scale)
        if len(depth) < self.falls + 1:
            return
        start = depth[0][1]
        ratios = [scale / start for _, scale in depth] if start else []
        for i, ratio in enumerate(ratios):
            # a fall that the layers behind make good, as a norm does, harms nothing
            if ratio < self.warning and max(ratios[i:]) < 100 * self.warning:
                steep = sum(after < before / 2 for before, after in pairwise(ratios[: i + 1]))
                if steep < self.falls:
                    return
                least = min(ratios[i:])
                severity = (
                    Severity.CRITICAL
                    if least < self.critical
                    else (Severity.SERIOUS if least < self.serious else Severity.WARNING)
                )
                threshold = {3: self.critical, 2: self.serious, 1: self.warning}[int(severity)]
                first = next(
                    (n for (n, _), r in zip(depth, ratios, strict=True) if r < max(threshold, self.serious)),
                    depth[i][0],
                )
                yield Verdict(
                    severity=severity,
                    value=least,
                    threshold=threshold,
                    layer=first,
                    message=f"activations shrink from {start:.2g} in {depth[0][0]} to {least * start:.2g}, by "
                    f"{least:.1g} along "
                    f"{len(depth)} layers",
                    cause="each layer passes on a fraction of what it gets: weights too small for the activation",
                    remedy=f"initialise the layers up to {first} for their activation (He for ReLU, Xavier for "
                    "tanh), or add "
                    "residual connections or a normalisation",
                )
                return
