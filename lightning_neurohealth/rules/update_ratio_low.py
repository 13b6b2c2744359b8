"""Steps that are too small to change the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.evidence import (
    began_elsewhere,
    has_learned,
    of_all,
    rate_rises,
    tells_apart,
    trained_matrices,
)
from lightning_neurohealth.window import Past, Window

USUAL = 1e-3


@dataclass(frozen=True, kw_only=True)
class UpdateRatioLow(RunRule):
    """What it finds: steps that change the weight matrices by less than a millionth of their size, in a network that
    gets a gradient and has not learned, at a learning rate that is no tail of a schedule.

    Why it hurts: the run would take millions of steps to change a weight by its own size; float32 rounds away what is
    smaller than 6e-8 of a weight, bfloat16 what is smaller than 4e-3.

    Remedies: a higher learning rate by the factor that the finding names, a look at the scheduler (its unit, its last
    value), at gradient clipping and at the scale of the loss.

    Sources: technical deep dive (S2), whose lower end of 1e-3 a healthy cosine schedule leaves far below: its tail
    reaches 2e-5. IEEE 754 for the resolution. Fine-tuning at 1e-5 moves trained weights by 1e-6 to 1e-5 a step: a run
    that begins with trained weights or tells rows apart is left out, and so are warm-up and the end of a schedule.

    Attributes:
        serious: Ratio, median over the weight matrices.
        critical: The same; half of float32's resolution, under which most updates are rounded away.
        decayed: Share of its peak under which a learning rate is the tail of a schedule.
        learned: Share of the loss whose fall is learning.
        vanished: Median over the greatest gradient norm of a parameter, under which the gradient is at fault: where
            none vanishes they lie closer together.
    """

    grace: int = 20
    serious: float = 1e-6
    critical: float = 6e-8
    decayed: float = 0.1
    learned: float = 0.05
    vanished: float = 1e-2

    def judge(
        self,
        window: Window,
        past: list[Past],
        layers: dict[str, Layer],
        parameters: Parameters,
        initial: dict[str, dict[str, Tensor]],
        update_ratio: dict[str, Tensor],
        gradient_norm: dict[str, Tensor] | None = None,
        activation_std: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        progress = window.progress
        names = trained_matrices(layers, parameters)
        ratio = of_all(update_ratio, names)
        norm = of_all(gradient_norm or {}, names)
        # behind a layer that is saturated only the last bias gets a gradient
        greatest = max(map(float, (gradient_norm or {}).values()), default=0.0)
        if not ratio < self.serious or norm <= self.vanished * greatest:
            return  # no gradient, or one that vanishes on its way back, moves nothing at any rate: others say so
        rates = [entry.window.learning_rate for entry in past]
        peak = max((rate for rate in [*rates, window.learning_rate] if not math.isnan(rate)), default=math.nan)
        if window.learning_rate < self.decayed * peak or rate_rises(window, past, update_ratio, names):
            return
        if any(of_all(entry.measures.get("update_ratio", {}), names) * self.decayed > ratio for entry in past):
            return  # it has moved before: a schedule that nobody told us of, or gradients that have shrunk
        if has_learned(progress, progress.since_start(self.learned)) or tells_apart(layers, activation_std, progress):
            return
        if began_elsewhere(window, past, layers, parameters, initial):
            return
        told = not progress.adversarial and progress.now == progress.now and progress.now != 0
        severity = Severity.CRITICAL if ratio < self.critical else Severity.SERIOUS
        factor = f" by a factor of about {10.0 ** round(math.log10(USUAL / ratio)):.0e}" if ratio > 0 else ""
        rate = "" if math.isnan(window.learning_rate) else f" is {window.learning_rate:.2g} and"
        yield Verdict(
            severity=severity if told else Severity.WARNING,
            value=ratio,
            threshold=self.critical if severity is Severity.CRITICAL else self.serious,
            message=f"a step changes the weight matrices by {ratio:.1g} of their size (median; 0.001 is common)"
            + (f", and the loss of {progress.initial:.3g} at the start is {progress.now:.3g} now" if told else ""),
            cause=f"the learning rate{rate} is too small for gradients and weights of this size"
            + ("" if math.isnan(norm) else f" (the gradient of a matrix has a norm of {norm:.2g})"),
            remedy=f"raise the learning rate{factor}; look at the scheduler (steps or epochs, its last value), at the "
            "clipping threshold and at what divides the loss",
        )
