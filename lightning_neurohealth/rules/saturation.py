"""Layers stuck at the ends of a bounded activation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import Bands, LayerRule, Verdict, chosen, fed_by
from lightning_neurohealth.window import Window

LARGE = 2.0
"""``init_scale`` up to which weights are of the usual size: torch's default is 0.6 of Xavier's, trained ones double."""


@dataclass(frozen=True, kw_only=True)
class Saturation(Bands, LayerRule):
    """What it finds: hidden layers whose bounded activation (tanh, sigmoid, hard variants) sits at its ends, or so
    far in its tails that the slope is under 5 % of its largest, on most rows × neurons. Gates are left out, and an
    output too, since it may be sure of itself, unless all that the network says is one constant at an end of the range.

    Why it hurts: the slope there is almost 0, so no gradient passes and everything before the layer stops learning.

    Remedies: normalise the inputs, Xavier initialisation, a normalisation before the activation, a lower learning rate,
    ReLU or GELU instead.

    Sources: technical deep dive (S2), activation monitoring (S1), Glorot and Bengio (2010). The seeds' bounds, |tanh|
    > 0.9 or more than 10 % of neurons, are passed by 30 to 70 % of rows in healthy networks; hence 0.99, and 80 %. It
    counts at 0.99 also where ``saturation_cutoff`` lets reports show another ``saturation_rate``. A loss that falls is
    no excuse for a layer that was stuck at the first step and still is: what has learned lies behind it, on features
    that were drawn and never trained. It is SERIOUS then, since the rest works.

    Attributes:
        constant: Standard deviation of an output, in shares of its range, up to which it is the same on all rows: an
            object on one row in ten thousand makes it half of that.
        steps: Training steps after which an output is judged.
        failed: Share of the loss at the start; where less than that is gone, a constant output is not what is wanted,
            as it is where nearly all labels are of one class.
    """

    warning: float = 0.65
    serious: float = 0.80
    critical: float = 0.95
    constant: float = 0.01
    steps: int = 100
    failed: float = 0.5

    def judge(
        self,
        layer: Layer,
        layers: dict[str, Layer],
        window: Window,
        initial: dict[str, dict[str, Tensor]],
        saturation_rate: Tensor,
        activation_mean: Tensor | None = None,
        activation_std: Tensor | None = None,
        tail_rate: Tensor | None = None,
        preactivation_mean: Tensor | None = None,
        preactivation_std: Tensor | None = None,
        bias_negativity: Tensor | None = None,
        weight_norm: Tensor | None = None,
        init_scale: Tensor | None = None,
    ) -> Verdict | None:
        if layer.gate:
            return None
        if layer.output:
            alone = sum(other.output for other in layers.values()) == 1
            rate = _stuck(layer, saturation_rate, tail_rate)
            return self._output(layer, window, rate, activation_mean, activation_std) if alone else None
        rate = _stuck(layer, saturation_rate, tail_rate)
        share = float(rate.mean())
        severity = self.severity(share)
        if not severity:
            return None
        first = (initial.get(measure, {}).get(layer.name) for measure in ("saturation_rate", "tail_rate"))
        born = (at_start := next(first)) is not None and float(
            _stuck(layer, at_start, next(first)).mean()
        ) > self.serious
        if born and window.progress.learning:
            severity = min(severity, Severity.SERIOUS)
        stuck = rate > self.serious
        owner, name = fed_by(layer), layer.function.name
        cause, remedy = "its pre-activations are too large for its activation", f"initialise {owner} with Xavier"
        if preactivation_mean is not None and preactivation_std is not None:
            size = float((preactivation_mean**2 + preactivation_std**2).mean().sqrt())
            sided = float(preactivation_mean.abs().median()) > float(preactivation_std.median())
            bias = None if bias_negativity is None or weight_norm is None else bias_negativity * weight_norm
            pushed = bias is not None and 2 * float(bias.abs().median()) > float(preactivation_mean.abs().median())
            why, remedy = self._why(layer, sided and pushed, init_scale)
            low, high = layer.function.tails
            cause = (
                f"its pre-activations have a size of {size:.3g}, where {name} is steep between {low:.3g} and "
                f"{high:.3g}; " + ("each neuron stays on one side" if sided else "they swing from end to end") + why
            )
        norm = "" if layer.normalized else f"put a normalisation between {owner} and its activation, "
        return Verdict(
            severity=severity,
            value=share,
            threshold=self.threshold(severity),
            message=f"{layer.name} is at an end of {name} on {share:.0%} of rows × neurons",
            cause=cause,
            remedy=f"{remedy}, {norm}lower the learning rate, or use a ReLU or GELU instead of {name}",
            neurons=chosen(stuck),
            certain=born,
        )

    def _output(
        self, layer: Layer, window: Window, rate: Tensor, mean: Tensor | None, std: Tensor | None
    ) -> Verdict | None:
        """An output that is one constant at an end of its range, while most of the loss is still there."""
        low, high, progress = layer.function.lower, layer.function.upper, window.progress
        if low is None or high is None or mean is None or std is None or window.seen < self.steps:
            return None
        if float(rate.mean()) < self.critical or not float(std.max()) < self.constant * (high - low):
            return None
        if not progress.fall < self.failed:
            return None
        upper = float((mean > (low + high) / 2).double().mean())
        ends = {0.0: f"its lower end {low:g}", 1.0: f"its upper end {high:g}"}
        name = layer.function.name
        return Verdict(
            severity=Severity.SERIOUS,
            value=float(rate.mean()),
            threshold=self.critical,
            message=f"all outputs of {layer.name} are constants at {ends.get(upper, 'both ends')} of {name}, and of "
            f"the loss of {progress.initial:.3g} at the start {progress.now:.3g} is still there",
            cause=f"targets lie beyond the range of {name}, {low:g} to {high:g}, or steps too large have thrown it "
            "there",
            remedy=f"bring the targets into the range of {name}, let {layer.name} end without it, or lower the "
            "learning rate",
            certain=True,
        )

    def _why(self, layer: Layer, pushed: bool, init_scale: Tensor | None) -> tuple[str, str]:
        """What makes the pre-activations large, and what to do about that."""
        owner = fed_by(layer)
        if layer.normalized:
            return ": the norm before it scales and shifts them so", "set that norm's weight to 1 and its bias to 0"
        if pushed:
            return ": its bias holds it there", f"initialise {owner} with Xavier and zero bias"
        spread = math.nan if init_scale is None else float(init_scale)
        if spread <= LARGE:
            return (
                f": its weights have {spread:,.3g} times the spread of Xavier's, so that what it reads is too large",
                f"normalise what {owner} reads (mean 0, variance 1)",
            )
        why = "" if math.isnan(spread) else f": its weights have {spread:,.3g} times the spread of Xavier's"
        return why, f"initialise {owner} with Xavier, normalise its inputs"


def _stuck(layer: Layer, saturation_rate: Tensor, tail_rate: Tensor | None) -> Tensor:
    off_at_zero = 0.0 in layer.function.dead_values
    return saturation_rate if tail_rate is None or off_at_zero else saturation_rate.maximum(tail_rate)
