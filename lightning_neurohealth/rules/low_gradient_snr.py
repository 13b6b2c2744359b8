"""Gradients that agree no more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.evidence import (
    began_elsewhere,
    flat,
    of_all,
    rate_rises,
    tells_apart,
    trained_matrices,
    waking,
)
from lightning_neurohealth.window import Past, Window

STILL, LARGE = 1e-6, 0.1
SLOW = 0.01


@dataclass(frozen=True, kw_only=True)
class LowGradientSnr(RunRule):
    """What it finds: gradients that over at least 20 measured steps have no more in common than chance would have it,
    in a network that has learned nothing since the start.

    Why it hurts: every step undoes the one before; no learning rate helps where there is no direction.

    Remedies: a look whether inputs and labels belong together (shuffling, indices, augmentation that destroys the
    label), larger batches or accumulation, normalised inputs.

    Sources: technical deep dive (S2), whose mean |g| / std |g| over elements is 1.32 for pure noise and less than 0.4
    in healthy transformers. Here it is T · ‖mean g‖² / Var g over T steps, whose mean under noise is 1 whatever T;
    healthy networks show 4 to 50 while they learn, and about 1 once they have converged: low alone is no fault. Runs
    that begin with trained weights, or whose outputs tell rows apart, may be there from the start.

    Attributes:
        warning, serious: Ratio, median over weight matrices and mean over windows.
        measured: Measured steps that it is taken over at least.
        steps: Training steps before a loss may be called flat.
        waking: Training steps that branches which are scaled down at the start have to wake up, at a WARNING.
        learned: Share of the loss whose fall is learning.
    """

    warning: float = 2.0
    serious: float = 1.5
    measured: int = 20
    steps: int = 60
    waking: int = 500
    learned: float = 0.05

    def judge(
        self,
        window: Window,
        past: list[Past],
        layers: dict[str, Layer],
        parameters: Parameters,
        initial: dict[str, dict[str, Tensor]],
        gradient_snr: dict[str, Tensor],
        train_loss: Tensor,
        update_ratio: dict[str, Tensor] | None = None,
        activation_std: dict[str, Tensor] | None = None,
        gradient_rms: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        progress = window.progress
        fall = progress.since_start(self.learned)
        if window.seen < self.steps or fall is None or not flat(fall, self.learned) or progress.improving:
            return
        if fall.error > self.learned / 2:
            return  # a fall that would count could hide in the noise of the loss
        names = trained_matrices(layers, parameters)
        ratio = of_all(update_ratio or {}, names)
        if ratio < STILL or ratio > LARGE:
            return  # the learning rate is at fault, and other rules say so
        if not progress.now or tells_apart(layers, activation_std, progress):
            return
        if began_elsewhere(window, past, layers, parameters, initial) or rate_rises(window, past, update_ratio, names):
            return
        found, measured = self._pooled(window, past, gradient_snr, names)
        if measured < self.measured or not found < self.warning:
            return
        # what falls beyond doubt, however little, falls for a reason
        falls = fall.share > max(SLOW, 3 * fall.error)
        young = window.seen < self.waking and waking(layers, gradient_rms, initial)
        severity = Severity.WARNING if found >= self.serious or falls or young else Severity.SERIOUS
        yield Verdict(
            severity=severity,
            value=found,
            threshold=self.warning if found >= self.serious else self.serious,
            message=f"the gradients of {measured} steps have {found:.2g} times as much in common as chance gives "
            f"(median over weight matrices; 4 to 50 in networks that learn), and after {window.seen} steps the loss "
            f"has fallen by {max(fall.share, 0.0):.1%} ± {fall.error:.1%}",
            cause="what batches ask for contradicts itself: labels that do not belong to their inputs, inputs that say "
            "nothing about them, or batches too small for their noise"
            + ("" if math.isnan(ratio) else f"; the weights do move, by {ratio:.1g} of their size a step"),
            remedy="look at a batch with its labels, and whether the network can learn one by heart; if the data is "
            "right, make the batch ten times as large (accumulate_grad_batches) or lower the learning rate tenfold",
        )

    def _pooled(
        self, window: Window, past: list[Past], gradient_snr: dict[str, Tensor], names: list[str]
    ) -> tuple[float, int]:
        """Mean over the last windows until enough steps are seen, and their number."""
        entries = [(window, gradient_snr)]
        entries += [(entry.window, entry.measures.get("gradient_snr", {})) for entry in reversed(past)]
        ratios: list[float] = []
        measured = 0
        for of, snr in entries:
            found = of_all(snr, names)
            if math.isfinite(found):
                ratios.append(found)
                measured += of.measured
            if measured >= 2 * self.measured and len(ratios) >= 3:
                break
        return (fmean(ratios) if ratios else math.nan), measured
