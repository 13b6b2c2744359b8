"""Neurons that give a constant and get no gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.life import Life
from lightning_neurohealth.rules.base import Bands, LayerRule, Verdict, chosen, count
from lightning_neurohealth.window import Window


@dataclass(frozen=True, kw_only=True)
class DeadNeurons(Bands, LayerRule):
    """What it finds: neurons whose activation lay at a constant end of its activation function (0 for ReLU), where the
    slope is 0, on every row since they last gave anything else: nothing flows back, so they cannot come back by
    themselves.

    Why it hurts: the layer is narrower than you pay for; from half of a layer on, the model barely learns.

    Remedies: a lower learning rate or warm-up, He initialisation, LeakyReLU, a normalisation before the activation.

    Sources: activation monitoring (S1) for the bands, neuron health summary (S0) for the definition and the causes.
    S1's own test, zeros on more than half of a layer, flags most healthy ReLU layers; a single batch proves nothing: of
    neurons that fire on 16 % of rows, 21 % look dead over 16 rows. While the network learns well, neurons that died on
    the way count one band less, since wide ReLU layers lose a fifth of theirs in the first epoch on the way to a
    perfect fit; and those that fell on the flat side by the draw of their weights, as half of a deep layer does at
    torch's own initialisation, are a WARNING at most. Both have time to show that it learns. Those that a bias, weights
    of one sign or a norm's shift hold off are not excused, nor is a layer that is dead as a whole.

    Attributes:
        rows: Rows that a neuron must have been silent for, unless a whole epoch was.
        steps: Measured steps among them: the places of one image are not independent rows.
        patience: Training steps that a network has to show that it learns, before less than half of a layer, or what
            the draw of the weights has turned off, is SERIOUS.
        fewest: Dead neurons from which on it is SERIOUS; fewer, in a small layer, are chance.
    """

    windows: int = 1
    rows: int = 1000
    steps: int = 5
    patience: int = 200
    fewest: int = 3
    statistical = False

    def judge(
        self,
        layer: Layer,
        life: Life,
        lives: dict[str, Life],
        window: Window,
        preactivation_mean: Tensor | None = None,
        preactivation_std: Tensor | None = None,
        bias_negativity: Tensor | None = None,
        positive_weight_sum: Tensor | None = None,
    ) -> Verdict | None:
        proven = ((life.rows >= self.rows) & (life.measured >= self.steps)) | (life.epochs >= 1)
        dead = life.silent & proven
        number = int(dead.sum())
        held_off = _held_off(layer, life.silent, preactivation_mean, bias_negativity, positive_weight_sum)
        severity = self._severity(dead, life, held_off, window)
        if not severity:
            return None
        rows = int(life.rows[dead].min())
        causes, remedy = self._why(layer, dead, life, lives, bias_negativity, positive_weight_sum)
        where = f"their pre-activation never left the flat part of {layer.function.name}"
        if preactivation_mean is not None and preactivation_std is not None:
            mean, std = preactivation_mean[dead].median(), preactivation_std[dead].median()
            where = f"their pre-activation lies at {mean:.3g} ± {std:.2g}, in the flat part of {layer.function.name}"
        return Verdict(
            severity=severity,
            value=number / layer.neurons,
            threshold=self.threshold(self.severity(number / layer.neurons)),
            message=f"{count(number, layer)} gave the same output on all of {rows:,} rows and passed no gradient "
            f"(they fire on at most {1 - 0.05 ** (1 / max(rows, 1)):.2%} of rows, at 95 % confidence)",
            cause="; ".join([where, *causes]),
            remedy=remedy,
            neurons=chosen(dead),
        )

    def _severity(self, dead: Tensor, life: Life, held_off: Tensor | None, window: Window) -> Severity:
        def band(mask: Tensor) -> Severity:
            return self.severity(int(mask.sum()) / len(mask))

        least = min(band(dead), Severity.WARNING)
        if int(dead.sum()) < self.fewest and not dead.all():
            return least
        # a neuron may wait for its first rare row: SERIOUS takes a second window, or an epoch
        settled = dead & ((life.windows >= 2) | (window.trained >= 1))
        if dead.all():
            return max(band(settled), least)
        pushed = torch.ones_like(dead) if held_off is None else held_off
        held, died = band(settled & life.born & pushed), band(settled & ~life.born)
        if window.progress.learning:
            drawn = min(band(dead & life.born & ~pushed), Severity.WARNING)
            return Severity(max(held, died - 1, drawn))
        if window.seen < self.patience:
            half = band(settled & (pushed | ~life.born))
            return max(held, least, half if half is Severity.CRITICAL else Severity.HEALTHY)
        return max(band(settled), least)

    def _why(
        self,
        layer: Layer,
        dead: Tensor,
        life: Life,
        lives: dict[str, Life],
        bias_negativity: Tensor | None,
        positive_weight_sum: Tensor | None,
    ) -> tuple[list[str], str]:
        """Why and since when, and what to do."""
        owner = layer.owner or layer.name
        leaky = f", replace {layer.activation} by a LeakyReLU" if layer.activation else ""
        norm = f", or normalise between {owner} and its activation"
        before = lives.get(layer.before or "")
        if before is not None and bool(before.silent.all()):
            return (
                [f"the layer before, {layer.before}, is dead as a whole, so that they see nothing but their bias"],
                f"cure {layer.before} first",
            )
        causes, number = [], int(dead.sum())
        if _most(dead, bias_negativity, -1.0):
            assert bias_negativity is not None
            size = -float(bias_negativity[dead].median())
            causes.append(f"their bias is negative and {size:.3g} times as large as the norm of their weights")
        elif _most(dead, positive_weight_sum, 0.0):
            causes.append("their weights and bias cannot reach z > 0 on inputs that are never negative")
        if int((dead & life.born).sum()) * 2 >= number:
            causes.append("so it has been since the start, which points to initialisation, bias or inputs")
            return causes, f"initialise {owner} for {layer.function.name} (He) with zero bias{leaky}{norm}"
        died = dead & ~life.born
        began, rate = int(life.died[died].median()), float(life.rate[died].median())
        now = "" if math.isnan(rate) else f" ({rate:.2g} then)"
        causes.append(f"they died while training, from about step {began} on, which points to the learning rate{now}")
        return causes, f"lower the learning rate or warm it up{leaky}{norm}"


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
    held = [x < bound for x, bound in ((bias_negativity, -1.0), (positive_weight_sum, 0.0)) if x is not None]
    if preactivation_mean is not None and int((~silent).sum()) >= 8:
        # those that live were drawn too: what lies five of their deviations under them was not
        alive = preactivation_mean[~silent]
        held.append(preactivation_mean < alive.mean() - 5 * alive.std())
    return None if bias_negativity is None else torch.stack(held).any(0)


def _most(dead: Tensor, measure: Tensor | None, bound: float) -> bool:
    return measure is not None and int((measure[dead] < bound).sum()) * 2 > int(dead.sum())
