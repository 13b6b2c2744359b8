"""A loss that has not fallen since the start."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.progress import Fall
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.evidence import (
    SHRUNK,
    began_elsewhere,
    flat,
    growth,
    median_snr,
    of_all,
    rate_rises,
    tells_apart,
    trained_matrices,
    waking,
)
from lightning_neurohealth.window import Past, Window

STILL, LARGE = 1e-6, 0.1
NOISE, SIGNAL = 1.5, 3.0
ENDS = 0.80
"""Share of rows × neurons of an output at an end of its activation: as of a hidden layer (saturation)."""


@dataclass(frozen=True, kw_only=True)
class Plateau(RunRule):
    """What it finds: a loss that has fallen by less than 5 % since the start of the run, where its noise is small
    enough to tell and the network has not shown before that it can do better.

    Why it hurts: nothing is learned, whatever the run costs.

    Remedies: those of its cause, which the finding names: a higher or lower learning rate, other initialisation,
    labels and data in their right order, a loss that depends on the outputs.

    Sources: technical deep dive (S2), Prechelt (1998). S2 calls flat whatever varies by less than 1e-4 over 15 points,
    which most converged runs do: flat at the end is convergence. A run that begins with trained weights (a resumed or
    fine-tuned one) or whose outputs already tell rows apart may well be at its floor from the start: no finding.
    Adversarial losses stay flat while both sides learn.

    Attributes:
        steps: Training steps before a loss may be called flat: a hundred are enough for any network that learns at its
            rate to lose 5 %, and warm-up is over or nearly so.
        waking: Training steps that branches which are scaled down at the start have to wake up, at a WARNING.
        learned: Share of the loss whose fall is learning.
    """

    steps: int = 100
    waking: int = 500
    learned: float = 0.05

    def judge(
        self,
        window: Window,
        past: list[Past],
        layers: dict[str, Layer],
        parameters: Parameters,
        initial: dict[str, dict[str, Tensor]],
        train_loss: Tensor,
        update_ratio: dict[str, Tensor] | None = None,
        gradient_snr: dict[str, Tensor] | None = None,
        gradient_norm: dict[str, Tensor] | None = None,
        activation_std: dict[str, Tensor] | None = None,
        zero_rate: dict[str, Tensor] | None = None,
        saturation_rate: dict[str, Tensor] | None = None,
        weight_norm: dict[str, Tensor] | None = None,
        gradient_rms: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        progress = window.progress
        fall = progress.since_start(self.learned)
        if window.seen < self.steps or fall is None or not flat(fall, self.learned) or progress.improving:
            return
        if not progress.now or not progress.initial:
            return  # a loss of exactly 0 has nowhere to fall
        names = trained_matrices(layers, parameters)
        if began_elsewhere(window, past, layers, parameters, initial) or rate_rises(window, past, update_ratio, names):
            return
        ratio, norm = of_all(update_ratio or {}, names), of_all(gradient_norm or {}, names)
        dead = [n for n, rate in (zero_rate or {}).items() if n in layers and float(rate.min()) > 0.99]
        constant = _constant(layers, activation_std)
        if not (constant or dead or norm == 0 or ratio < STILL) and tells_apart(layers, activation_std, progress):
            return
        severity = Severity.SERIOUS
        size = growth(layers, weight_norm or {}, initial)
        shrunk = size < SHRUNK and constant
        ends = _at_an_end(layers, saturation_rate)
        snr = median_snr(gradient_snr, names, past)
        known = f"; the learning rate is {window.learning_rate:.2g}" if not math.isnan(window.learning_rate) else ""
        if shrunk:
            cause = f"the weights have shrunk to {size:.1g} of what they were at the start: their decay outweighs the "
            cause += "gradient, and outputs hardly differ from row to row"
            remedy = "lower weight_decay, or the penalty on the weights, a hundredfold"
        elif dead:
            cause = f"all neurons of {', '.join(dead[:3])} are silent: what lies before gets no gradient, what lies "
            cause += "behind sees the same on every row, and the loss is what a constant prediction gives"
            remedy = (
                f"initialise {dead[0]} again (He, zero bias), lower the learning rate or warm it up, or use a LeakyReLU"
            )
        elif norm == 0:
            cause = "the gradient of most weight matrices is exactly 0: the loss does not depend on them"
            remedy = "look for detach(), no_grad(), argmax or saturated activations between the layers and the loss"
        elif ratio < STILL:
            cause = f"a step changes the weights by {ratio:.1g} of their size, where 0.001 is common{known}"
            remedy = f"raise the learning rate{_times(ratio)}, and look that the scheduler and its units are right"
        elif ratio > LARGE:
            severity = Severity.WARNING  # update_ratio_high says so
            cause = f"a step changes the weights by {ratio:.2g} of their size: they are thrown about{known}"
            remedy = "lower the learning rate tenfold or more, and warm it up"
        elif ends is not None:
            cause = (
                f"{ends.name} is at an end of {ends.function.name} on most rows: targets lie beyond its range, or it "
            )
            cause += f"was thrown there{known}"
            remedy = f"bring the targets into the range of {ends.function.name}, or let {ends.name} end without it"
        elif (fall.share > 3 * fall.error and not snr < NOISE) or fall.drift < -3 * fall.drift_error:
            severity = Severity.WARNING
            # one that falls beyond doubt over the second half of the run may have got going late
            cause = f"it does fall, but slowly{known}"
            remedy = "raise the learning rate three- to tenfold"
        elif snr < NOISE:
            cause = f"gradients are noise (their signal is {snr:.2g} times what chance gives)"
            cause += ", and outputs hardly differ from row to row: as good as a constant prediction" if constant else ""
            remedy = (
                "look whether inputs and labels still belong together (shuffling, indices, augmentation) and whether "
            )
            remedy += "one batch can be learned by heart; then a larger batch"
        else:
            told = constant or snr < SIGNAL or (math.isnan(snr) and window.seen >= 4 * self.steps)
            severity = Severity.SERIOUS if told else Severity.WARNING
            cause = (
                "the outputs hardly differ from row to row: a constant prediction" if constant else "the weights move"
            )
            cause += ", but not to a lower loss" + (
                f", though gradients agree ({snr:.2g} times chance)" if snr > NOISE else ""
            )
            remedy = (
                "see whether one batch can be learned by heart; if so raise the learning rate tenfold, if not look at "
            )
            remedy += "the loss, the labels and the initialisation"
        if window.seen < self.waking and waking(layers, gradient_rms, initial):
            severity = min(severity, Severity.WARNING)
            cause += "; or it has not got going yet: branches that began at next to nothing are waking up"
        yield Verdict(
            severity=severity,
            value=fall.share,
            threshold=self.learned,
            message=_message(fall, window),
            cause=cause,
            remedy=remedy,
        )


def _constant(layers: dict[str, Layer], activation_std: dict[str, Tensor] | None) -> bool:
    """True if the outputs are the same on all rows, to a thousandth of what a fresh network's are."""
    stds = [std for name, std in (activation_std or {}).items() if name in layers and layers[name].output]
    return bool(stds) and all(float(std.max()) < 1e-2 for std in stds)


def _at_an_end(layers: dict[str, Layer], saturation_rate: dict[str, Tensor] | None) -> Layer | None:
    """An output that is at an end of its bounded activation on nearly all rows × neurons."""
    rates = {name: float(rate.mean()) for name, rate in (saturation_rate or {}).items() if name in layers}
    return next((layers[name] for name, rate in rates.items() if layers[name].output and rate > ENDS), None)


def _times(ratio: float) -> str:
    return f" by a factor of about {10.0 ** round(math.log10(1e-3 / ratio)):g}" if ratio > 0 else ""


def _message(fall: Fall, window: Window) -> str:
    return (
        f"after {window.seen} steps the loss has fallen by {max(fall.share, 0.0):.1%} ± {fall.error:.1%} of its "
        f"{window.progress.initial:.3g} at the start"
    )
