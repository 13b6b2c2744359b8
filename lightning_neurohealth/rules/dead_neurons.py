"""Neurons that give a constant and get no gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import Bands, LayerRule, Verdict, chosen, count
from lightning_neurohealth.window import Past, Window


@dataclass(frozen=True, kw_only=True)
class DeadNeurons(Bands, LayerRule):
    """What it finds: neurons whose activation lay at a constant end of its activation function (0 for ReLU), where the
    slope is 0, on every recent row: nothing flows back, so they cannot come back by themselves.

    Why it hurts: the layer is narrower than you pay for; from half of a layer on, the model barely learns.

    Remedies: a lower learning rate or warm-up, He initialisation, LeakyReLU, a normalisation before the activation.

    Sources: activation monitoring (S1) for the bands, neuron health summary (S0) for the definition. S1's own test,
    zeros on more than half of a layer, flags most healthy ReLU layers; a single batch proves nothing: of neurons that
    fire on 16 % of rows, 21 % look dead over 16 rows. Neurons that die while the network learns well count one band
    less: wide ReLU layers lose a fifth of theirs in the first epoch, at torch's own initialisation, on the way to a
    perfect fit.

    Attributes:
        rows: Rows that must have been seen, unless a whole epoch was.
    """

    windows: int = 1
    rows: int = 1000
    statistical = False

    def judge(
        self,
        layer: Layer,
        past: list[Past],
        window: Window,
        on_rate: Tensor,
        zero_rate: Tensor,
        activation_std: Tensor,
        activation_rows: Tensor,
        slope: Tensor | None = None,
        preactivation_mean: Tensor | None = None,
        preactivation_std: Tensor | None = None,
    ) -> Verdict | None:
        dead = _dead(layer, on_rate, zero_rate, activation_std, slope)
        rows, epochs, earlier = int(activation_rows), window.epochs, list(past)
        while earlier and dead.any() and rows < self.rows and epochs < 1:
            entry = earlier.pop()
            m = entry.measures
            dead = dead & _dead(layer, m["on_rate"], m["zero_rate"], m["activation_std"], m.get("slope"))
            rows += int(m["activation_rows"])
            epochs += entry.window.epochs
        if not dead.any() or (rows < self.rows and epochs < 1):
            return None
        number = int(dead.sum())
        share = number / layer.neurons
        born = dead if not past else dead & _of(layer, past[0])
        severity = self.severity(share)
        if window.progress.learning:
            severity = max(self.severity(int(born.sum()) / layer.neurons), Severity(max(severity - 1, 0)))
        if not severity:
            return None
        bound = 1 - 0.05 ** (1 / rows)
        cause = f"their pre-activation never left the flat part of {layer.function.name}"
        if preactivation_mean is not None and preactivation_std is not None:
            mean, std = preactivation_mean[dead].median(), preactivation_std[dead].median()
            cause = f"their pre-activation lies at {mean:.3g} ± {std:.2g}, in the flat part of {layer.function.name}"
        owner = layer.owner or layer.name
        leaky = f", replace {layer.activation} by a LeakyReLU" if layer.activation else ""
        if int(born.sum()) * 2 >= number:
            cause += "; so it has been since the start, which points to initialisation, bias or inputs"
            remedy = f"initialise {owner} for {layer.function.name} (He) with zero bias{leaky}"
        else:
            cause += f"; they died while training, which points to the learning rate (now {window.learning_rate:.2g})"
            remedy = f"lower the learning rate or warm it up{leaky}"
        return Verdict(
            severity=severity,
            value=share,
            threshold=self.threshold(self.severity(share)),
            message=f"{count(number, layer)} gave the same output on all of {rows:,} rows and passed no gradient "
            f"(they fire on at most {bound:.2%} of rows, at 95 % confidence)",
            cause=cause,
            remedy=f"{remedy}, or normalise between {owner} and its activation",
            neurons=chosen(dead),
        )


def _of(layer: Layer, entry: Past) -> Tensor:
    m = entry.measures
    return _dead(layer, m["on_rate"], m["zero_rate"], m["activation_std"], m.get("slope"))


def _dead(layer: Layer, on_rate: Tensor, zero_rate: Tensor, std: Tensor, slope: Tensor | None) -> Tensor:
    """Constant output without any slope, neuron by neuron."""
    off = (zero_rate == 1) & (on_rate == 0)
    constant = off | (std == 0)
    if slope is not None:
        return constant & (slope == 0) & (off | bool(layer.function.dead_values))
    # without the slope only an exact flat end at 0 is proof
    return off & (0.0 in layer.function.dead_values) & torch.ones_like(off)
