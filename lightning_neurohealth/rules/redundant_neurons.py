"""Neurons that are copies of one another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import Bands, LayerRule, Verdict, chosen, count

NEIGHBOURS = 8
INPUTS = 8
"""Least fan-in and least number of neurons that are judged: in few dimensions neurons are alike by chance."""


@dataclass(frozen=True, kw_only=True)
class RedundantNeurons(Bands, LayerRule):
    """What it finds: neurons whose incoming weights equal those of another neuron of the layer to a thousandth, and
    whose activations have the same mean and spread as such a neuron's to a thousandth. Where ``redundancy`` is measured
    (the set ``full``), neurons whose weights point the same or the opposite way (cosine over 0.99) are a warning; where
    ``effective_rank`` is, so are eight outputs or more that have come to vary along one line.

    Why it hurts: copies compute one feature at the price of many; if what reads them is alike too they get the same
    gradient and never part.

    Remedies: initialise the layer with random weights, re-initialise the copies, dropout; or make the layer narrower.

    Sources: neuron health summary (S0), whose bound of 0.99 on the cosine alone says nothing of size, sign and bias.
    Random neurons are about 1 apart and learned ones seldom under 0.1, so that a thousandth is no chance. Dead neurons,
    layers of few inputs or neurons and those in groups (depthwise convolutions read other channels with equal kernels)
    are left out. Of outputs the rank alone counts; of hidden layers it does not: that before the output of a classifier
    of two classes comes down to one line as it converges (Papyan et al. 2020).

    Attributes:
        distance: Distance of weights, and of means and spreads, in shares of the larger, up to which neurons are equal.
        cosine: Cosine from which on neurons point the same way.
        line: Effective rank under which outputs vary along one line.
        plane: Effective rank from which on they did not at the first step.
    """

    warning: float = 0.05
    serious: float = 0.20
    critical: float = 0.50
    distance: float = 1e-3
    cosine: float = 0.99
    line: float = 1.1
    plane: float = 2.0

    def judge(
        self,
        layer: Layer,
        parameters: Parameters,
        initial: dict[str, dict[str, Tensor]],
        twin_distance: Tensor,
        activation_mean: Tensor,
        activation_std: Tensor,
        redundancy: Tensor | None = None,
        effective_rank: Tensor | None = None,
    ) -> Verdict | None:
        if not comparable(layer, parameters):
            return None
        if layer.output:
            start = initial.get("effective_rank", {}).get(layer.name)
            return None if effective_rank is None or start is None else self._line(layer, float(effective_rank), start)
        alike = copies(twin_distance, activation_mean, activation_std, self.distance)
        owner = layer.owner or layer.name
        share = int(alike.sum()) / layer.neurons
        severity = self.severity(share)
        if severity:
            return Verdict(
                severity=severity,
                value=share,
                threshold=self.threshold(severity),
                message=f"{count(int(alike.sum()), layer)} have the weights of another one, to {self.distance:.1g} of "
                "their size, and its activation",
                cause="they began alike, by a constant initialisation or as copies, and get the same gradient",
                remedy=f"initialise {owner} with random weights, or re-initialise all but one of each group of copies; "
                f"or give {owner} {layer.neurons - int(alike.sum()) + 1} neurons",
                neurons=chosen(alike),
                certain=severity > Severity.WARNING,
            )
        if redundancy is None:
            return None
        parallel = (redundancy > self.cosine) & (activation_std > 0)
        share = int(parallel.sum()) / layer.neurons
        if share < self.serious:
            return None
        return Verdict(
            severity=Severity.WARNING,
            value=share,
            threshold=self.serious,
            message=f"{count(int(parallel.sum()), layer)} point the same or the opposite way as another one (cosine "
            f"over {self.cosine:g})",
            cause="the layer has more neurons than directions that it has found use for",
            remedy=f"prune or re-initialise the copies, or make {owner} narrower",
            neurons=chosen(parallel),
        )

    def _line(self, layer: Layer, rank: float, start: Tensor) -> Verdict | None:
        if not (0 < rank < self.line and float(start) >= self.plane):
            return None
        return Verdict(
            severity=Severity.WARNING,
            value=rank,
            threshold=self.line,
            message=f"all {layer.neurons} outputs of {layer.name} vary along one line: their effective rank is "
            f"{rank:.3g}, and was {float(start):.3g} at the first step",
            cause="they all say the same of a row, up to scale and sign: the representation has collapsed, or one "
            "number is all that the targets hold",
            remedy=f"if {layer.name} is a representation, push different rows apart (negatives, variance and "
            "covariance terms, a stopped gradient with a predictor)",
        )


def comparable(layer: Layer, parameters: Parameters) -> bool:
    """False where neurons are alike by chance, or read different inputs with equal weights."""
    if layer.neurons < INPUTS or layer.fan_in < INPUTS:
        return False
    return getattr(parameters.module(layer.owner), "groups", 1) == 1


def copies(twin_distance: Tensor, mean: Tensor, std: Tensor, bound: float) -> Tensor:
    """Neurons near another one by their weights that have the activation of another such, ``[neurons]``.

    A neuron that is constant over the data is nobody's copy: all dead ones look the same.
    """
    alike = (twin_distance <= bound) & (std > 0)
    if not alike.any():
        return alike
    near = alike.nonzero().flatten()
    near = near[(std + mean)[near].argsort()]
    mean, spread, found = mean[near], std[near], torch.zeros(len(near), dtype=torch.bool)
    for shift in range(1, min(NEIGHBOURS + 1, len(near))):
        size = spread[shift:].maximum(spread[:-shift]).maximum(mean[shift:].abs()).maximum(mean[:-shift].abs())
        apart = (mean[shift:] - mean[:-shift]).abs().maximum((spread[shift:] - spread[:-shift]).abs())
        same = apart <= bound * size
        found[shift:] |= same
        found[:-shift] |= same
    return torch.zeros_like(twin_distance, dtype=torch.bool).index_fill_(0, near[found], True)
