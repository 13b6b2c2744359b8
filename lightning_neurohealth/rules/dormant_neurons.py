"""Neurons that say next to nothing beside their neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.life import Life
from lightning_neurohealth.rules.base import Bands, LayerRule, Verdict, chosen, count
from lightning_neurohealth.window import Window


@dataclass(frozen=True, kw_only=True)
class DormantNeurons(Bands, LayerRule):
    """What it finds: neurons with less than τ of their layer's typical activity, though not dead, behind an activation.

    Why it hurts: capacity that is paid for and not used; in reinforcement learning and long runs it grows and the
    network loses the ability to learn.

    Remedies: recycle them (re-initialise incoming, zero outgoing weights), weight decay or normalisation, a lower
    learning rate, fewer updates on the same data.

    Sources: Sokar et al. (2023); their τ = 0.1 flags up to 16 % of healthy layers. The typical activity is the less of
    the layer's mean and its 95 % quantile: one outlier neuron must not make all others dormant. While the network
    learns well, less than a quarter of a layer is no finding: in deep ReLU networks without norms, a sixth fires
    seldom.

    Attributes:
        tau: Share of the typical activity at or under which a neuron is dormant.
    """

    tau: float = 0.025
    warning: float = 0.15
    serious: float = 0.25
    critical: float = 0.50

    def judge(self, layer: Layer, life: Life, window: Window, dormancy: Tensor) -> Verdict | None:
        if (
            layer.function.linear
            or layer.output
            or layer.gate
            or layer.neurons < 4
            or not bool(dormancy.isfinite().all())
        ):
            return None
        typical = min(1.0, float(dormancy.quantile(0.95)))
        if typical == 0:
            return None
        dormant = (dormancy <= self.tau * typical) & ~life.silent
        share = int(dormant.sum()) / layer.neurons
        severity = self.severity(share)
        if not severity or (severity is Severity.WARNING and window.progress.learning):
            return None
        return Verdict(
            severity=severity,
            value=share,
            threshold=self.threshold(severity),
            message=f"{count(int(dormant.sum()), layer)} have at most {self.tau:.1%} of the layer's typical activity",
            cause="they give almost nothing whatever they see: small or shrunken incoming weights, or a pre-activation "
            "that seldom leaves the flat part of the activation",
            remedy=f"recycle the dormant neurons of {layer.owner or layer.name}, lower the learning rate, or normalise "
            "before its activation",
            neurons=chosen(dormant),
        )
