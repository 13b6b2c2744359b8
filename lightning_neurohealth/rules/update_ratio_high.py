"""Steps that are too large for the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.progress import Fall, Progress
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.rules.evidence import (
    SHRUNK,
    began_at_zero,
    growth,
    has_learned,
    of_all,
    trained_matrices,
)
from lightning_neurohealth.window import Past, Window

USUAL = 0.01


@dataclass(frozen=True, kw_only=True)
class UpdateRatioHigh(RunRule):
    """What it finds: steps that change weight matrices by more than a tenth of their size, window after window, or once
    by more than all of it, in a network that has learned nothing since.

    Why it hurts: a few such steps replace what was initialised or learned; units die, and where they leave the weights
    large, Adam needs thousands of steps to come back.

    Remedies: a lower learning rate by the factor that the finding names, warm-up, clipping.

    Sources: technical deep dive (S2), You et al. (2017) on trust ratios. S2's band from 1e-3 to 1e-2 holds on a third
    of a healthy GPT-2's steps; a tenth is ten times its upper end. In healthy runs only the first steps of quick
    optimizers and of small weights pass it, and the loss falls with them. Weights that begin at 0 are left out: their
    first steps are all that they are.

    Attributes:
        warning: Ratio, median over the weight matrices, above which a network that learns all the same gets a warning.
        serious: The same for one that does not learn.
        critical: Ratio above which one step replaces the weights.
        learned: Share of the loss whose fall since the start is learning.
        grown: Growth of the weights since the start that shows, with large steps, that they were thrown.
    """

    grace: int = 20
    warning: float = 0.1
    serious: float = 0.1
    critical: float = 1.0
    learned: float = 0.05
    grown: float = 5.0

    def judge(
        self,
        window: Window,
        past: list[Past],
        layers: dict[str, Layer],
        parameters: Parameters,
        initial: dict[str, dict[str, Tensor]],
        update_ratio: dict[str, Tensor],
        weight_norm: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        names = [n for n in trained_matrices(layers, parameters) if not began_at_zero(n, layers, initial)]
        now, first = of_all(update_ratio, names), of_all(initial.get("update_ratio", {}), names)
        fall = window.progress.since_start(self.learned)
        if has_learned(window.progress, fall):
            if window.index and now > self.warning:
                yield self._sustained(Severity.WARNING, now, window)
            return
        told = not window.progress.adversarial and not math.isnan(window.progress.initial)
        larger = growth(layers, weight_norm or {}, initial)
        if now > (self.serious if told else self.critical):
            severity = Severity.CRITICAL if told and now > self.critical and window.index else Severity.SERIOUS
            verdict = self._sustained(severity, now, window)
            yield _decayed(verdict, larger) if larger < SHRUNK else verdict
            return
        if not told:
            return
        before = [of_all(entry.measures.get("update_ratio", {}), names) for entry in past]
        peak = max([x for x in [first, now, *before] if not math.isnan(x)], default=0.0)
        if peak > self.critical or (peak > self.serious and (larger > self.grown or _risen(window.progress, fall))):
            yield self._thrown(peak, first, larger, window)
            return
        yield from self._single(names, update_ratio, layers, window)

    def _sustained(self, severity: Severity, now: float, window: Window) -> Verdict:
        return Verdict(
            severity=severity,
            value=now,
            threshold=self.critical if severity is Severity.CRITICAL else self.serious,
            message=f"a step changes the weight matrices by {now:.2g} of their size (median; 0.001 to 0.01 is common)"
            + _loss(window.progress),
            cause="steps as large as that replace the weights within a few of them: the learning rate "
            + ("" if math.isnan(window.learning_rate) else f"({window.learning_rate:.2g}) ")
            + "is too high for this network and optimizer",
            remedy=_slower(now, window.learning_rate),
        )

    def _thrown(self, peak: float, first: float, larger: float, window: Window) -> Verdict:
        when = "the first step" if peak == first else "steps of one window"
        grown = f"; they are {larger:.2g} times as large as at the start" if larger > 2 else ""
        return Verdict(
            severity=Severity.SERIOUS,
            value=peak,
            threshold=self.critical if peak > self.critical else self.serious,
            message=f"{when} changed the weight matrices by {peak:.2g} of their size (median){grown}, and nothing has "
            f"been learned since{_loss(window.progress)}",
            cause="steps too large have thrown the weights to where the gradient does not lead back"
            + ("" if math.isnan(window.learning_rate) else f"; the learning rate is {window.learning_rate:.2g}"),
            remedy="start again: " + _slower(peak, window.learning_rate),
        )

    def _single(
        self, names: list[str], ratios: dict[str, Tensor], layers: dict[str, Layer], window: Window
    ) -> Iterable[Verdict]:
        hot = {n: float(ratios[n]) for n in names if n in ratios and self.critical < float(ratios[n]) < math.inf}
        if hot and window.index:
            name = max(hot, key=hot.__getitem__)
            layer = next((layer.name for layer in layers.values() if layer.weight == name), None)
            yield Verdict(
                severity=Severity.SERIOUS,
                value=hot[name],
                threshold=self.critical,
                layer=layer,
                message=f"a step changes {name} by {hot[name]:.2g} of its size" + _loss(window.progress),
                cause="the other matrices move far less: its parameter group, or its scale, asks for smaller steps",
                remedy=f"in the parameter group of {name}, " + _slower(hot[name], window.learning_rate),
            )


def _decayed(verdict: Verdict, size: float) -> Verdict:
    """The same where it is the weights that have become small."""
    return replace(
        verdict,
        cause=f"the weights have shrunk to {size:.1g} of what they were at the start: their decay outweighs the "
        "gradient, and takes its share of them at each step",
        remedy="lower weight_decay, or the penalty on the weights, a hundredfold",
    )


def _risen(progress: Progress, fall: Fall | None) -> bool:
    if not math.isfinite(progress.now):
        return True
    return fall is not None and fall.share < -0.5 and fall.share < -3 * fall.error


def _loss(progress: Progress) -> str:
    if progress.adversarial or math.isnan(progress.initial):
        return ""
    return f"; the loss was {progress.initial:.3g} at the start and is {progress.now:.3g}"


def _slower(ratio: float, rate: float) -> str:
    factor = 10.0 ** max(1, math.ceil(math.log10(ratio / USUAL))) if math.isfinite(ratio) else 1e3
    known = "" if math.isnan(rate) else f" (from {rate:.2g} to {rate / factor:.2g})"
    return f"divide the learning rate by {factor:g}{known}, warm it up over the first hundreds of steps, clip gradients"
