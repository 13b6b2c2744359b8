"""Parameters that cannot learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.window import Past, Window


@dataclass(frozen=True, kw_only=True)
class NoGradient(RunRule):
    """What it finds: trainable parameters without any gradient at every measured step, with a gradient but in no
    optimizer, or in an optimizer and never moved.

    Why it hurts: they stay as they were initialised. A parameter that no optimizer has and no gradient reaches is
    left out, as in target networks and teachers.

    Remedies: look for ``detach()``, ``no_grad()``, ``.data``, integer or boolean conversions behind the layer; pass the
    parameter to the optimizer; set ``requires_grad = False`` where it is meant.

    Source: neuron health summary (S0): gradient flow 0, "neuron never updated".

    Attributes:
        steps: Training steps, and at least one epoch, over which it must have been so.
        measured: Measured steps among them.
    """

    windows: int = 1
    steps: int = 20
    measured: int = 2
    statistical = False

    def judge(
        self,
        window: Window,
        past: list[Past],
        parameters: Parameters,
        silent: dict[str, str],
        gradient_norm: dict[str, Tensor],
        parameter_change: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        zero = {name for name, norm in gradient_norm.items() if float(norm) == 0}
        still = {name for name, change in (parameter_change or {}).items() if float(change) == 0}
        steps, measured = window.steps, window.measured
        for entry in reversed(past):
            if steps >= self.steps and measured >= self.measured:
                break
            zero &= {name for name, norm in entry.measures["gradient_norm"].items() if float(norm) == 0}
            still &= {name for name, change in entry.measures.get("parameter_change", {}).items() if float(change) == 0}
            steps, measured = steps + entry.window.steps, measured + entry.window.measured
        if steps < self.steps or measured < self.measured or window.trained < 1:
            return
        optimized = parameters.optimized
        trainable = [n for n, wanted in zip(parameters.names, parameters.trainable(), strict=True) if wanted]
        faults: dict[str, list[str]] = {"no gradient": [], "no optimizer": [], "never moved": []}
        for name in trainable:
            has = optimized is None or name in optimized
            if name in zero:
                if has:
                    faults["no gradient"].append(name)
            elif not has:
                faults["no optimizer"].append(name)
            elif name in still:
                faults["never moved"].append(name)
        for fault, names in faults.items():
            yield from self._verdicts(fault, names, trainable, silent, window)

    def _verdicts(
        self, fault: str, names: list[str], trainable: list[str], silent: dict[str, str], window: Window
    ) -> Iterable[Verdict]:
        modules: dict[str, list[str]] = {}
        for name in names:
            modules.setdefault(name.rpartition(".")[0], []).append(name.rpartition(".")[2])
        for module, own in modules.items():
            siblings = [n.rpartition(".")[2] for n in trainable if n.rpartition(".")[0] == module]
            if len(own) < len(siblings) and "weight" not in own:
                continue  # a bias in front of a norm or a softmax has no gradient by nature
            what = f"{module}.{{{', '.join(own)}}}" if len(own) > 1 else f"{module}.{own[0]}".lstrip(".")
            unused = silent.get(module) == "never called"
            severity = Severity.CRITICAL if len(names) == len(trainable) else Severity.SERIOUS
            message, cause, remedy = {
                "no gradient": (
                    f"no gradient has reached {what}",
                    "the module was never called"
                    if unused
                    else "the graph is cut behind it, or everything behind it is dead",
                    f"remove {module or what} or set requires_grad = False"
                    if unused
                    else f"look for detach(), no_grad(), .data or argmax between {module or what} and the loss, or set "
                    "requires_grad = False if it is meant",
                ),
                "no optimizer": (
                    f"{what} gets a gradient but is in no optimizer",
                    "configure_optimizers was given a part of the parameters",
                    f"pass {what} to the optimizer, or set requires_grad = False if it is meant",
                ),
                "never moved": (
                    f"{what} gets a gradient but has not moved",
                    f"its learning rate is 0 (the largest is {window.learning_rate:.2g}), or its type is too "
                    "coarse for its "
                    "updates",
                    f"check the learning rate of {what}'s parameter group, or keep float32 weights",
                ),
            }[fault]
            yield Verdict(
                severity=Severity.WARNING if unused else severity,
                value=len(names) / len(trainable),
                threshold=0.0,
                layer=module or what,
                message=message,
                cause=cause,
                remedy=remedy,
            )
