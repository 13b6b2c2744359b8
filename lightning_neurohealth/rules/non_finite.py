"""NaN and infinity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_neurohealth.breakdown import Breakdown
from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import RunRule, Verdict, chosen
from lightning_neurohealth.rules.evidence import blow_up, middle
from lightning_neurohealth.window import Past, Window

REPLACED = 1.0
"""Share of a parameter's size from which on one step replaces it (update_ratio_high)."""
GROWN = 100.0
"""Growth of the loss up to the first NaN that no noise explains: then it is how it came about."""


@dataclass(frozen=True, kw_only=True)
class NonFinite(RunRule):
    """What it finds: the first NaN or infinity in an activation, the loss, a gradient or a parameter, with the step
    and the first layer in the order of execution. A step that a GradScaler skips for overflow is not one.

    Why it hurts: it spreads to every weight with the next update, and the run is lost.

    Remedies: look at the batch of that step; a lower learning rate, gradient clipping, an ε in logarithms, roots and
    divisions of the loss, bfloat16 in place of float16.

    Source: technical deep dive (S2), "numerical stability".
    """

    windows: int = 1
    grace: int = 0
    statistical = False

    def judge(
        self,
        layers: dict[str, Layer],
        window: Window,
        past: list[Past],
        nonfinite_rate: dict[str, Tensor],
        nonfinite_step: dict[str, Tensor],
        nonfinite_loss_step: Tensor,
        nonfinite_gradient_step: Tensor,
        parameter_nonfinite_rate: dict[str, Tensor],
        train_loss: Tensor | None = None,
        update_ratio: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        now = {
            "nonfinite_rate": nonfinite_rate,
            "nonfinite_step": nonfinite_step,
            "nonfinite_loss_step": nonfinite_loss_step,
            "nonfinite_gradient_step": nonfinite_gradient_step,
            "parameter_nonfinite_rate": parameter_nonfinite_rate,
            "train_loss": train_loss,
            "update_ratio": update_ratio or {},
        }
        order = list(layers)
        began = _Origin(now, order, window.breakdown)
        if not began.found:
            return
        for entry in reversed(past):  # once the weights are broken everything is: what counts is where it began
            before = _Origin(entry.measures, order, entry.window.breakdown)
            if not before.found:
                break
            began = before
        yield began.verdict()


class _Origin:
    """Where NaN or infinity was first seen in one window."""

    def __init__(self, measures: Mapping[str, Any], order: list[str], breakdown: Breakdown | None) -> None:
        self.breakdown = breakdown
        steps, self.rates = measures["nonfinite_step"], measures["nonfinite_rate"]
        self.entrance = next(iter(order), None)
        seen = {name: float(steps[name]) for name in order if name in steps}
        self.steps = {name: step for name, step in seen.items() if math.isfinite(step)}
        self.loss, self.gradient = float(measures["nonfinite_loss_step"]), float(measures["nonfinite_gradient_step"])
        self.broken = [name for name, rate in measures["parameter_nonfinite_rate"].items() if float(rate) > 0]
        self.ratios = measures.get("update_ratio", {})
        losses = measures.get("train_loss")
        self.losses = [] if losses is None else blow_up(losses.tolist())
        self.first = min([*self.steps.values(), self.loss, self.gradient])
        self.found = math.isfinite(self.first) or bool(self.broken)

    @property
    def step_size(self) -> float:
        """Middle of the ratios of updates that are finite."""
        ratios = map(float, self.ratios.values())
        return middle(ratio for ratio in ratios if math.isfinite(ratio))

    def verdict(self) -> Verdict:
        first, loss, gradient = self.first, self.loss, self.gradient
        layer = next((name for name, step in self.steps.items() if step == first), None)
        where = [f"in the activations of {layer}"] if layer is not None else []
        where += [
            f"in the {what}" for what, step in (("loss", loss), ("gradients", gradient)) if step == first < math.inf
        ]
        if self.broken and not where:
            where.append(f"in {self.broken[0]}" + (f" and {len(self.broken) - 1} more" if len(self.broken) > 1 else ""))
        if layer is not None and layer == self.entrance:
            cause = f"{layer}, the first layer, wrote one: the batch itself held it, or the weights of {layer} did"
        elif layer is not None:
            cause = (
                f"{layer} is the first layer in the order of execution that wrote one: its input or weights overflowed"
            )
        elif loss == first == gradient < math.inf:
            cause = "the layers were finite at that step: the loss divides by 0, or takes a logarithm or root of it"
        elif loss == first < math.inf:
            # the gradients of a measured step would have shown it too
            cause = "that step was not measured, so that its layers are not known; every_n_steps=1 would show them"
        elif gradient == first < math.inf:
            cause = "the backward pass overflowed while the loss was still finite"
        else:
            cause = "the last update broke the weights"
        if self.breakdown is not None and math.isfinite(self.breakdown.size):
            cause += f"; before that, {self.breakdown}"
        if len(self.losses) > 1 and self.losses[-1] > GROWN * self.losses[0]:
            cause = (
                f"the loss grew from {self.losses[0]:.2g} to {self.losses[-1]:.2g} in the {len(self.losses)} steps "
                f"before it: steps too large threw the weights further and further, until a number overflowed; {cause}"
            )
        elif (step_size := self.step_size) > REPLACED:
            cause = (
                f"steps of this window changed parameters by {step_size:.2g} times their size (median), which "
                f"points to the learning rate; {cause}"
            )
        bad = self.rates[layer] > 0 if layer is not None else None
        return Verdict(
            severity=Severity.CRITICAL,
            value=1.0 if bad is None else float(bad.double().mean()),
            threshold=0.0,
            layer=layer,
            message="NaN or infinity"
            + (f" at training step {int(first)}" if math.isfinite(first) else "")
            + f", first {' and '.join(where)}",
            cause=cause,
            remedy=f"look at the batch of that step{f' and at {layer}' if layer else ''}; lower the learning "
            "rate, clip "
            "gradients, add an ε to logarithms, roots and divisions of the loss, use bfloat16 in place of float16",
            neurons=None if bad is None else chosen(bad),
        )
