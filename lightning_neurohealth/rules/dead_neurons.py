"""Neurons that give a constant and get no gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.life import Life
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import Bands, LayerRule, Verdict, chosen, count
from lightning_neurohealth.rules.causes_of_death import why
from lightning_neurohealth.rules.evidence import began_elsewhere
from lightning_neurohealth.window import Past, Window

FEW_STEPS, MANY = 2, 10
"""Measured steps that are enough where the rows of one alone would do; neurons that tell of each other."""
FEW_INPUTS = 8
UNMOVED = 0.01
"""Share of their size by which weights must have moved to have turned a neuron off."""
FAIR = (0.7, 1.4)
"""``init_scale`` between which other weights of the usual kind would do no better."""


@dataclass(frozen=True, kw_only=True)
class DeadNeurons(Bands, LayerRule):
    """What it finds: neurons whose activation lay at a constant end of its activation function (0 for ReLU), where the
    slope is 0, on every row since they last gave anything else: nothing flows back, so they cannot come back by
    themselves. Of attention, heads that gave nothing but 0.

    Why it hurts: the layer is narrower than you pay for; from half of a layer on, the model barely learns.

    Remedies: a lower learning rate or warm-up, He initialisation, LeakyReLU, a normalisation before the activation; of
    dead heads, pruning.

    Sources: activation monitoring (S1) for the bands, neuron health summary (S0) for the definition and the causes.
    S1's own test, zeros on more than half of a layer, flags most healthy ReLU layers; a single batch proves nothing: of
    neurons that fire on 16 % of rows, 21 % look dead over 16 rows. While the network learns well, or has not had the
    time to show it, or has a loss that cannot (an adversary's), neurons that died on the way count one band less, since
    wide ReLU layers lose a fifth of theirs in the first epoch on the way to a perfect fit; so do those that fell on the
    flat side by the draw of their weights, and are a WARNING at most: without a norm, a tenth to a half of each deep
    layer does, at He's initialisation and at torch's, and of few inputs, whose bias may outweigh them by chance. A
    network that was trained before has them from then, and they count one band less too. Those that a bias, weights of
    one sign or a norm's shift hold off are not excused, nor is a layer that is dead as a whole.

    Attributes:
        rows: Rows that a neuron must have been silent for, unless a whole epoch was: then it fires on less than 0.3 %
            of them. Fewer prove as much where neurons tell of each other: of a layer whose neurons fire on 1 % of rows,
            all silent over 100 rows or half over 300 is no chance. Those are enough for a layer that is silent as a
            whole, and for half of one while the network does not learn. A tenth is enough for a neuron whose bias
            outweighs all of its weights: only inputs of a kind not seen yet could wake it; a few, for one that no input
            can: without a weight or a bias above 0, on inputs that are never negative.
        steps: Measured steps among them: the places of one image are not independent rows.
        margin: Depth in the flat part that it takes for a bias to count so, in standard deviations of the
            pre-activation; by Cantelli's inequality at most 1 in 1 + margin² rows of the kind seen are further off, so
            that with twice the depth a fourth of the rows proves as much.
        confirmed: Windows in a row without activity or gradient after which a neuron is confirmed dead.
        patience: Training steps that a network has to show that it learns, before less than half of a layer, or what
            the draw of the weights has turned off, is SERIOUS.
        fewest: Dead neurons from which on it is SERIOUS; fewer, in a small layer, are chance.
    """

    windows: int = 1
    rows: int = 1000
    steps: int = 5
    margin: float = 10.0
    confirmed: int = 3
    patience: int = 200
    fewest: int = 3
    statistical = False

    def judge(
        self,
        layer: Layer,
        life: Life,
        lives: dict[str, Life],
        window: Window,
        past: list[Past],
        layers: dict[str, Layer],
        parameters: Parameters,
        initial: dict[str, dict[str, Tensor]],
        preactivation_mean: Tensor | None = None,
        preactivation_std: Tensor | None = None,
        bias_negativity: Tensor | None = None,
        positive_weight_sum: Tensor | None = None,
        weight_norm: Tensor | None = None,
        init_scale: Tensor | None = None,
        update_ratio: Tensor | None = None,
    ) -> Verdict | None:
        if not bool(life.silent.any()):
            return None
        rows, steps = torch.full_like(life.rows, self.rows), torch.full_like(life.measured, self.steps)
        if preactivation_mean is not None and preactivation_std is not None and bias_negativity is not None:
            depth = _depth(layer, preactivation_mean, preactivation_std)
            held = (depth > self.margin) & (bias_negativity.abs() > 1)
            rows = torch.where(held, (rows / 10 * (self.margin / depth) ** 2).clamp(min=self.rows / 40), rows)
            steps = torch.where(held & (depth > 2 * self.margin), FEW_STEPS, steps)
        never = _never(layer, bias_negativity, positive_weight_sum, weight_norm)
        rows, steps = torch.where(never, 1, rows), torch.where(never, FEW_STEPS, steps)
        dead = self._together(life, rows, steps, window)
        number = int(dead.sum())
        if not bool(dead.any()):
            return None
        trained = began_elsewhere(window, past, layers, parameters, initial)
        mean = None if trained else preactivation_mean  # which tells of the draw alone
        held_off = _held_off(layer, life.silent, mean, bias_negativity, positive_weight_sum)
        severity = self._severity(dead, life, held_off, window, trained)
        if layer.channels:
            severity = max(severity, Severity.WARNING)  # one head is many weights
        if not severity:
            return None
        fewest = int(life.rows[dead].min())
        ratios = [float(of) for of in [update_ratio, *(p.measures.get("update_ratio") for p in past)] if of is not None]
        frozen = dict(zip(parameters.names, parameters.trainable(), strict=True)).get(layer.weight or "") is False
        step = max((ratio for ratio in ratios if ratio == ratio), default=math.inf)
        causes, remedy = why(
            layer,
            dead,
            life,
            lives,
            window,
            trained=trained,
            frozen=frozen,
            step=step,
            bias_negativity=bias_negativity,
            positive_weight_sum=positive_weight_sum,
            init_scale=init_scale,
        )
        where = f"their pre-activation never left the flat part of {layer.function.name}"
        if layer.channels:
            where = "what their values are summed to is exactly 0: their weights are, or a mask stands before them"
        elif preactivation_mean is not None and preactivation_std is not None:
            mean, std = preactivation_mean[dead].median(), preactivation_std[dead].median()
            where = f"their pre-activation lies at {mean:.3g} ± {std:.2g}, in the flat part of {layer.function.name}"
        return Verdict(
            severity=severity,
            value=number / layer.neurons,
            threshold=self.threshold(self.severity(number / layer.neurons)),
            message=f"{count(number, layer)} gave the same output on all of {fewest:,} rows and passed no gradient "
            f"(they fire on at most {1 - 0.05 ** (1 / max(fewest, 1)):.2%} of rows, at 95 % confidence)"
            + self._confirmation(dead, life),
            cause="; ".join([where, *causes]),
            remedy=remedy,
            neurons=chosen(dead),
        )

    def _together(self, life: Life, rows: Tensor, steps: Tensor, window: Window) -> Tensor:
        """Neurons that have been silent for as many rows and steps as they need, or as many as they need together."""

        def silent(rows: Tensor | float, steps: Tensor | int) -> Tensor:
            return life.silent & (((life.rows >= rows) & (life.measured >= steps)) | (life.epochs >= 1))

        neurons = len(life.silent)
        whole = silent(max(self.rows / 10, self.rows / neurons), FEW_STEPS if neurons >= MANY else self.steps)
        if bool(whole.all()):
            return whole
        half = silent(0.3 * self.rows, self.steps)
        if neurons >= MANY and not window.progress.learning and int(half.sum()) >= self.critical * neurons:
            return half | silent(rows, steps)
        return silent(rows, steps)

    def _confirmation(self, dead: Tensor, life: Life) -> str:
        confirmed = int((dead & life.confirmed(self.confirmed)).sum())
        if not confirmed:
            return ""
        which = "all" if confirmed == int(dead.sum()) else str(confirmed)
        least = int(life.windows[dead & life.confirmed(self.confirmed)].min())
        return f"; {which} confirmed dead: no activity and no gradient for {least} windows in a row"

    def _severity(self, dead: Tensor, life: Life, held_off: Tensor | None, window: Window, trained: bool) -> Severity:
        def band(mask: Tensor) -> Severity:
            return self.severity(int(mask.sum()) / len(mask))

        # a neuron may wait for its first rare row: SERIOUS takes a second window, or an epoch
        settled = dead & ((life.windows >= 2) | (window.trained >= 1))
        most = Severity.WARNING if int(dead.sum()) < self.fewest and not dead.all() else Severity.CRITICAL
        learning = window.progress.learning
        if trained and not dead.all() and held_off is not None:
            # they died in a run before this one, whose network works
            worse = max(band(settled & held_off), min(band(dead & held_off), Severity.WARNING))
            return min(Severity(max(worse, band(settled) - 1, min(band(dead) - 1, Severity.WARNING))), most)
        if dead.all() or not (learning or window.progress.adversarial or window.seen < self.patience):
            return min(max(band(settled), min(band(dead), Severity.WARNING)), most)
        held = life.born if held_off is None else life.born & held_off
        worst: list[int] = [band(settled & held), min(band(dead & held), Severity.WARNING)]
        worst.append(min(band(dead & ~held) - 1, Severity.WARNING))
        if learning:
            worst.append(band(settled & ~life.born) - 1)
        elif band(settled & (held | ~life.born)) is Severity.CRITICAL:
            worst.append(Severity.CRITICAL)  # half of a layer does not just die
        return Severity(min(max(worst), most))


def _held_off(
    layer: Layer,
    silent: Tensor,
    preactivation_mean: Tensor | None,
    bias_negativity: Tensor | None,
    positive_weight_sum: Tensor | None,
) -> Tensor | None:
    """Neurons that more than the draw of their weights keeps on the flat side; ``None`` where that cannot be told."""
    if layer.normalized:
        return None
    # torch draws biases up to √(3 / fan-in) of the norm of the weights; and few weights may be of one sign by chance
    usual = max(1.0, 3 / math.sqrt(layer.fan_in)) if layer.fan_in else 1.0
    held = [] if bias_negativity is None else [bias_negativity.abs() > usual]
    held += [] if positive_weight_sum is None or 0 < layer.fan_in < FEW_INPUTS else [positive_weight_sum < 0]
    if preactivation_mean is not None and int((~silent).sum()) >= 8:
        # those that live were drawn too: what lies five of their deviations beside them was not
        alive = preactivation_mean[~silent]
        held.append((preactivation_mean - alive.mean()).abs() > 5 * alive.std())
    return None if bias_negativity is None else torch.stack(held).any(0)


def _never(
    layer: Layer, bias_negativity: Tensor | None, positive_weight_sum: Tensor | None, weight_norm: Tensor | None
) -> Tensor:
    """Neurons that no input can wake: what they read is never negative, and no weight nor their bias is above 0."""
    if bias_negativity is None or positive_weight_sum is None or weight_norm is None or layer.normalized:
        return torch.zeros(layer.neurons, dtype=torch.bool)
    bias = bias_negativity * weight_norm
    # the bias comes back rounded, and with it the sum of the weights above 0
    return (positive_weight_sum < 0) & (positive_weight_sum - bias < 1e-4 * weight_norm) & layer.function.is_gate


def _depth(layer: Layer, mean: Tensor, std: Tensor) -> Tensor:
    """How far the pre-activation lies in a flat end of the activation, in its standard deviations."""
    low, high = layer.function.tails
    return (low - mean).maximum(mean - high) / std
