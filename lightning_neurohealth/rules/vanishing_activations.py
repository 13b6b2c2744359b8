"""Activations that shrink from layer to layer until nothing of the input is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.depth import Stream, streams
from lightning_neurohealth.window import Window


@dataclass(frozen=True, kw_only=True)
class VanishingActivations(RunRule):
    """What it finds: the spread of activations over data (median over neurons) falls geometrically along the depth,
    to less than 1e-5 of the first layer's. A norm begins a new count: it sets the scale anew. Or, a WARNING, the
    network has come to say the same of all rows: its outputs hardly vary beside what they did at the first step, and
    beside their mean.

    Why it hurts: the last layers see the same thing whatever the input is, so nothing can be learned from it.

    Remedies: initialise for the activation, residual connections, normalisation, ReLU-like activations; where outputs
    have collapsed, a loss that pushes rows apart, or a stopped gradient.

    Sources: activation monitoring (S1), whose absolute standard deviation says nothing without the scale of the input;
    Chen and He (2021) on representations that collapse, which the loss rewards. Outputs that hardly vary are a WARNING,
    since targets may hardly vary either; few outputs, as of a regression or a value, are left out.

    Attributes:
        falls: Layers that must each have less than half of the spread of the one before: a single fall, in front of a
            branch that is scaled down on purpose, is not geometric.
        left: Share of its spread at the first step that the output that varies most may have left; one that learns to
            tell rows apart has more than all of it.
        varies: Spread over mean, median over outputs, under which they are nearly the same on all rows.
        outputs: Neurons of an output from which on it is a representation.
    """

    warning: float = 1e-4
    serious: float = 1e-5
    critical: float = 1e-8
    falls: int = 3
    left: float = 0.1
    varies: float = 0.1
    outputs: int = 8

    def judge(
        self,
        layers: dict[str, Layer],
        activation_scale: dict[str, Tensor],
        initial: dict[str, dict[str, Tensor]],
        window: Window,
        activation_std: dict[str, Tensor] | None = None,
        activation_mean: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
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
        elif not window.progress.adversarial:
            start = initial.get("activation_std", {})
            yield from self._collapsed(layers, start, activation_std or {}, activation_mean or {})

    def _collapsed(
        self, layers: dict[str, Layer], start: dict[str, Tensor], now: dict[str, Tensor], mean: dict[str, Tensor]
    ) -> Iterable[Verdict]:
        """The first of all outputs, where each says nearly the same of all rows and did not at the first step."""
        outputs = [name for name, layer in layers.items() if layer.output]
        if not outputs or not all(name in of for name in outputs for of in (start, now, mean)):
            return
        for name in outputs:
            left = float(now[name].max() / start[name].max())
            varies = float((now[name] / mean[name].abs()).median())
            if layers[name].neurons < self.outputs or not (left < self.left and varies < self.varies):
                return
        first = outputs[0]
        left, varies = float(now[first].max() / start[first].max()), float((now[first] / mean[first].abs()).median())
        yield Verdict(
            severity=Severity.WARNING,
            value=left,
            threshold=self.left,
            layer=first,
            message=f"{first} says nearly the same of all rows: its neurons vary by {varies:.1g} of their mean, and by "
            f"{left:.1g} of what they did at the first step",
            cause="the loss is lowest where all rows look alike: nothing pushes them apart, or the targets hardly vary",
            remedy=f"if {first} is a representation, push different rows apart (negatives, variance and covariance "
            "terms, a stopped gradient with a predictor); if it is a prediction, standardise the targets",
        )

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
