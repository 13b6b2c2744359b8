"""Layers stuck at the ends of a bounded activation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import Bands, LayerRule, Verdict, chosen


@dataclass(frozen=True, kw_only=True)
class Saturation(Bands, LayerRule):
    """What it finds: hidden layers whose bounded activation (tanh, sigmoid, hard variants) sits at its ends, or so
    far in its tails that the slope is under 5 % of its largest, on most rows × neurons. Output layers and gates are
    left out: they may be sure of themselves.

    Why it hurts: the slope there is almost 0, so no gradient passes and everything before the layer stops learning.

    Remedies: normalise the inputs, Xavier initialisation, a normalisation before the activation, a lower learning rate,
    ReLU or GELU instead.

    Sources: technical deep dive (S2), activation monitoring (S1), Glorot and Bengio (2010). The seeds' bounds, |tanh|
    > 0.9 or more than 10 % of neurons, are passed by 30 to 70 % of rows in healthy networks; hence 0.99, and 80 %.
    """

    warning: float = 0.65
    serious: float = 0.80
    critical: float = 0.95

    def judge(
        self,
        layer: Layer,
        saturation_rate: Tensor,
        tail_rate: Tensor | None = None,
        preactivation_mean: Tensor | None = None,
        preactivation_std: Tensor | None = None,
    ) -> Verdict | None:
        if layer.output or layer.gate:
            return None
        off_at_zero = 0.0 in layer.function.dead_values
        rate = saturation_rate if tail_rate is None or off_at_zero else saturation_rate.maximum(tail_rate)
        share = float(rate.mean())
        severity = self.severity(share)
        if not severity:
            return None
        stuck = rate > self.serious
        cause = "its pre-activations are too large for its activation"
        if preactivation_mean is not None and preactivation_std is not None:
            size = float((preactivation_mean**2 + preactivation_std**2).mean().sqrt())
            mostly = float(preactivation_mean.abs().median()) > float(preactivation_std.median())
            low, high = layer.function.tails
            cause = (
                f"its pre-activations have a size of {size:.3g}, where {layer.function.name} is steep between "
                f"{low:.3g} and "
                f"{high:.3g}; "
                + ("each neuron stays on one side (bias)" if mostly else "they swing from end to end (weights)")
            )
        owner = layer.owner or layer.name
        return Verdict(
            severity=severity,
            value=share,
            threshold=self.threshold(severity),
            message=f"{layer.name} is at an end of {layer.function.name} on {share:.0%} of rows × neurons",
            cause=cause,
            remedy=f"initialise {owner} with Xavier, normalise its inputs or put a normalisation between {owner} "
            "and its "
            f"activation, lower the learning rate, or use a ReLU or GELU instead of {layer.function.name}",
            neurons=chosen(stuck),
        )
