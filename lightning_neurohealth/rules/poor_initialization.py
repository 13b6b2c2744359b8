"""Weights that a network should not start from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.initial_scales import Chain, faulty_chain, steady_chain
from lightning_neurohealth.rules.redundant_neurons import comparable, copies
from lightning_neurohealth.window import Window

ALIKE = ("twin_distance", "activation_mean", "activation_std")
INITS = {
    "he": "He (nn.init.kaiming_normal_)",
    "xavier": "Xavier (nn.init.xavier_normal_)",
    "lecun": "LeCun (a standard deviation of 1/√fan-in)",
}


@dataclass(frozen=True, kw_only=True)
class PoorInitialization(RunRule):
    """What it finds: a start from which a network hardly learns. Seen at the first measured step, before any update:
    hidden layers whose neurons are copies of one another, or all zero with no gradient; and activations, or gradients
    of weights, that are 100 times as large or as small at the end of a chain of layers as at its beginning. It stands
    as long as that is still so: what the first steps have repaired was no fault.

    Why it hurts: copies get one gradient and never part; what shrinks or grows with every layer leaves the last or the
    first of them without anything to learn from.

    Remedies: He initialisation for ReLU and its like, Xavier for tanh and sigmoid, LeCun for SELU and linear layers; a
    normalisation or residual connections in deep networks; random weights in place of constants.

    Sources: technical deep dive (S2), advanced activation techniques (S4), Glorot and Bengio (2010), He et al. (2015).
    The spread of single weights (``init_scale``) is no finding by itself: torch's own default is 0.41 of He's. Along
    the depth no layer counts for more than its own weights explain, so that what inputs, norms and learned weights do
    is no matter of initialisation. torch's default makes plain ReLU networks of eight layers shrink a hundredfold, and
    Adam gets them going within 80 steps: it is a warning unless the loss has not fallen in 100 steps, or in all of a
    shorter run. Zero-initialised branches move with the first update, and layers behind them have a scale.

    Attributes:
        off: Factor between the ends of a chain.
        identical: Share of a layer's neurons that are copies.
        distance: Up to which weights and activations are equal, in shares of the larger.
        steps: Training steps in which the loss must have begun to fall.
        progress: Share of the loss that counts as such.
        small, large: ``init_scale`` between which the weights of bounded activations are not held to account for
            gradients: from somewhat under torch's default to twice He's or Xavier's.
    """

    windows: int = 1
    off: float = 100.0
    identical: float = 0.5
    distance: float = 1e-3
    steps: int = 100
    progress: float = 0.05
    small: float = 0.3
    large: float = 2.0

    def judge(
        self,
        window: Window,
        layers: dict[str, Layer],
        parameters: Parameters,
        initial: Mapping[str, Any],
        activation_scale: dict[str, Tensor],
        activation_mean: dict[str, Tensor],
        activation_std: dict[str, Tensor],
        twin_distance: dict[str, Tensor],
        dead_weight_rate: dict[str, Tensor],
        init_scale: dict[str, Tensor],
        gradient_norm: dict[str, Tensor],
        gradient_rms: dict[str, Tensor],
    ) -> Iterable[Verdict]:
        trainable = dict(zip(parameters.names, parameters.trainable(), strict=True))
        hidden = {n: x for n, x in layers.items() if trainable.get(x.weight or "") and not x.output}
        now = dict(zip(ALIKE, (twin_distance, activation_mean, activation_std), strict=True))
        alike = False
        began_near = _near(initial.get("twin_distance", {}), self.distance)
        for name, layer in hidden.items():
            share = self._copies(layer, parameters, initial) if name in began_near else 0.0
            share = min(share, self._copies(layer, parameters, now)) if share else share
            if share >= self.identical:
                yield self._identical(layer, share)
                alike = True
            zero = _zero(name, initial.get("dead_weight_rate", {})) and _zero(name, dead_weight_rate)
            if zero and float(gradient_norm.get(layer.weight or "", math.nan)) == 0:
                yield _stuck(layer)
                alike = True
        if alike:
            return  # scales follow from that
        spreads = {name: float(value) for name, value in initial.get("init_scale", {}).items() if name in init_scale}
        chain = faulty_chain(layers, initial.get("activation_scale", {}), activation_scale, spreads, self.off)
        if chain is not None:
            yield self._scale("activations", chain, layers, spreads, window)
            return
        # what is normed does not notice the scale of its weights, of which their gradient is the inverse
        held = (x for x in hidden.values() if x.function.saturates and not (x.gate or x.normalized))
        bounded = {x.name: x for x in held if x.name in spreads}
        if len(bounded) > 2 and not self.small <= median(spreads[n] for n in bounded) <= self.large:
            # bounded activations keep their scale whatever the weights: the gradients tell
            start, end = (_of_weights(bounded, when) for when in (initial.get("gradient_rms", {}), gradient_rms))
            chain = steady_chain(tuple(bounded), start, end, self.off)
            if chain is not None:
                yield self._scale("gradients", chain, layers, spreads, window)

    def _copies(self, layer: Layer, parameters: Parameters, measures: Mapping[str, Any]) -> float:
        distance, mean, std = (measures.get(measure, {}).get(layer.name) for measure in ALIKE)
        if distance is None or mean is None or std is None or not comparable(layer, parameters):
            return 0.0
        return int(copies(distance, mean, std, self.distance).sum()) / layer.neurons

    def _identical(self, layer: Layer, share: float) -> Verdict:
        owner = layer.owner or layer.name
        return Verdict(
            severity=Severity.SERIOUS,
            value=share,
            threshold=self.identical,
            layer=layer.name,
            message=f"{share:.0%} of the {layer.neurons} neurons of {layer.name} began as copies of one another and "
            "still are",
            cause=f"{owner} was initialised with a constant, or with copies, and so was what reads it: copies get the "
            "same gradient",
            remedy=f"initialise {owner} with {INITS[layer.function.init]}",
            certain=True,
        )

    def _scale(
        self, what: str, chain: Chain, layers: dict[str, Layer], spreads: dict[str, float], window: Window
    ) -> Verdict:
        place, alone = chain.culprit(self.off)
        progress = window.progress.since_start(self.progress)
        waited = window.seen >= self.steps or window.last
        stalled = waited and progress is not None and not progress.learned
        function, spread = layers[place].function, spreads.get(place, 1.0)
        first, last = chain.names[0], chain.names[-1]
        which = place if alone else f"the layers from {first} to {last}"
        ratio = chain.scales[-1] / chain.scales[0]
        cause = f"{function.name} shrinks what it gets in every layer, and nothing restores it"
        if not 0.9 < spread < 1.1:
            cause = f"the weights of {place} have {spread:,.3g} times the spread that {function.name} asks for"
        return Verdict(
            severity=Severity.SERIOUS if stalled else Severity.WARNING,
            value=ratio,
            threshold=self.off if ratio > 1 else 1 / self.off,
            layer=place,
            message=f"at the first step {what} go from {chain.scales[0]:.2g} in {first} to {chain.scales[-1]:.2g} in "
            f"{last}, a factor of {ratio:.2g} along {len(chain.names)} layers, "
            + (f"and the loss has not fallen in {window.seen} steps" if stalled else "which makes learning slow"),
            cause=cause,
            remedy=f"initialise {which} with {INITS[function.init]}, or add a normalisation or residual connections",
        )


def _stuck(layer: Layer) -> Verdict:
    owner = layer.owner or layer.name
    return Verdict(
        severity=Severity.SERIOUS,
        value=1.0,
        threshold=1.0,
        layer=layer.name,
        message=f"all weights of {owner} began at 0 and still are; no gradient reaches them",
        cause="what it multiplies, or what multiplies it, is zero too: a product of two zeros has no gradient",
        remedy=f"initialise {owner} with {INITS[layer.function.init]}; of two factors only one may begin at zero",
    )


def _near(twin_distance: Mapping[str, Tensor], bound: float) -> set[str]:
    """Layers in which some neuron may be a copy of another."""
    if not twin_distance:
        return set()
    names, distances = list(twin_distance), list(twin_distance.values())
    owner = torch.arange(len(names)).repeat_interleave(torch.tensor([len(of_one) for of_one in distances]))
    return {names[place] for place in owner[torch.cat(distances) <= bound].unique().tolist()}


def _zero(name: str, dead_weight_rate: Mapping[str, Tensor]) -> bool:
    return name in dead_weight_rate and bool((dead_weight_rate[name] == 1).all())


def _of_weights(layers: Mapping[str, Layer], gradient_rms: Mapping[str, Tensor]) -> list[float]:
    return [float(gradient_rms.get(layer.weight or "", math.nan)) for layer in layers.values()]
