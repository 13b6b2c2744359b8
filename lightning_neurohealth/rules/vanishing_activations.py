"""Activations that shrink from layer to layer until nothing of the input is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.depth import Stream, streams


@dataclass(frozen=True, kw_only=True)
class VanishingActivations(RunRule):
    """What it finds: the spread of activations over data (median over neurons) falls geometrically along the depth,
    to less than 1e-5 of the first layer's. A norm begins a new count: it sets the scale anew.

    Why it hurts: the last layers see the same thing whatever the input is, so nothing can be learned from it.

    Remedies: initialise for the activation, residual connections, normalisation, ReLU-like activations.

    Sources: activation monitoring (S1), whose absolute standard deviation says nothing without the scale of the input.

    Attributes:
        falls: Layers that must each have less than half of the spread of the one before: a single fall, in front of a
            branch that is scaled down on purpose, is not geometric.
    """

    warning: float = 1e-4
    serious: float = 1e-5
    critical: float = 1e-8
    falls: int = 3

    def judge(self, layers: dict[str, Layer], activation_scale: dict[str, Tensor]) -> Iterable[Verdict]:
        found = streams(layers, activation_scale)
        fallen = [
            stream
            for stream in found.values()
            if stream.ratio < self.warning
            and sum(after < before / 2 for before, after in stream.links) >= self.falls
            and not self._made_good(stream, found)
        ]
        if fallen:
            yield self._verdict(min(fallen, key=lambda stream: stream.ratio))

    def _made_good(self, stream: Stream, found: dict[str, Stream]) -> bool:
        """True if a layer behind has its spread again: then the fall harms nothing."""
        depth = len(stream.names)
        return any(other.names[:depth] == stream.names and other.ratio > 100 * self.warning for other in found.values())

    def _verdict(self, stream: Stream) -> Verdict:
        ratio, start = stream.ratio, stream.scales[0]
        severity = Severity(1 + (ratio < self.serious) + (ratio < self.critical))
        threshold = (self.warning, self.serious, self.critical)[severity - 1]
        bound = max(threshold, self.serious) if severity > Severity.WARNING else self.warning
        first = next(n for n, s in zip(stream.names, stream.scales, strict=True) if s < bound * start)
        return Verdict(
            severity=severity,
            value=ratio,
            threshold=threshold,
            layer=first,
            message=f"activations shrink from {start:.2g} in {stream.names[0]} to {ratio * start:.2g} in "
            f"{stream.names[-1]}, by {ratio:.1g} along {len(stream.names)} layers",
            cause="each layer passes on a fraction of what it gets: weights too small for the activation",
            remedy=f"initialise the layers up to {first} for their activation (He for ReLU, Xavier for tanh), or add "
            "residual connections or a normalisation",
        )
