"""Parameters that cannot learn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.life import Life
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.window import Past, Window

VANISHED, UNDERFLOW = 1e-5, 1e-30
"""Share of the largest gradient that has vanished, as in vanishing_gradients; norm next to float32's least, 1e-38."""


@dataclass(frozen=True, kw_only=True)
class NoGradient(RunRule):
    """What it finds: trainable parameters without any gradient at every measured step, with a gradient but in no
    optimizer, or in an optimizer and never moved.

    Why it hurts: they stay as they were initialised. A parameter that no optimizer has and no gradient reaches is
    left out, as in target networks and teachers.

    Not called on any of the steps: a WARNING, as of an expert to which nothing is routed. Nothing to say where all
    gradients are 0 because the loss is: a margin that every row keeps.

    Remedies: look for ``detach()``, ``no_grad()``, ``.data``, integer or boolean conversions behind the layer; pass the
    parameter to the optimizer; set ``requires_grad = False`` where it is meant.

    Source: neuron health summary (S0): gradient flow 0, "neuron never updated".

    Attributes:
        steps: Training steps, and at least one epoch, over which it must have been so.
        measured: Measured steps among them.
        proof: Measured steps that it takes where weight decay moves a parameter whether it has a gradient or not: a
            branch that is called on one step in six escapes 20 of them once in forty times, on one in three never.
    """

    windows: int = 1
    steps: int = 20
    measured: int = 2
    proof: int = 20
    statistical = False

    def judge(
        self,
        window: Window,
        past: list[Past],
        parameters: Parameters,
        silent: dict[str, str],
        lives: dict[str, Life],
        layers: dict[str, Layer],
        gradient_norm: dict[str, Tensor],
        parameter_change: dict[str, Tensor] | None = None,
        slope: dict[str, Tensor] | None = None,
    ) -> Iterable[Verdict]:
        now = Past(window, {"gradient_norm": gradient_norm, "parameter_change": parameter_change or {}})
        found = self._pooled([*past, now], self.measured)
        if found is None:
            return
        zero, still = found
        # what weight decay may have moved can have had gradients on steps that were not measured
        sure, _ = self._pooled([*past, now], self.proof) or (set(), set())
        optimized = parameters.optimized
        trainable = [n for n, wanted in zip(parameters.names, parameters.trainable(), strict=True) if wanted]
        faults: dict[str, list[str]] = {"no gradient": [], "no optimizer": [], "never moved": []}
        for name in trainable:
            has = optimized is None or name in optimized
            if name in zero:
                cut = name in still or (name in sure and (name in parameters.decayed or not parameter_change))
                if has and cut:
                    faults["no gradient"].append(name)
            elif not has:
                faults["no optimizer"].append(name)
            elif name in still:
                faults["never moved"].append(name)
        if faults["no gradient"] == trainable and window.progress.now == 0:
            return
        uncalled = {name: reason for name, reason in silent.items() if reason == "never called"}
        uncalled |= dict.fromkeys(lives.keys() - layers.keys(), "not called on any of these steps")
        uncalled |= _idle(trainable, uncalled, {layer.owner or layer.name for layer in layers.values()})
        dead = [name for name, life in lives.items() if bool(life.silent.all()) and int(life.windows.min()) > 0]
        dead += [name for name, steep in (slope or {}).items() if name not in dead and not bool(steep.any())]
        for fault, names in faults.items():
            yield from self._verdicts(fault, names, trainable, uncalled, window, dead, _faint(gradient_norm, names))

    def _pooled(self, windows: list[Past], measured: int) -> tuple[set[str], set[str]] | None:
        """Parameters without gradient, and those that stood still, over the last windows that hold enough steps."""
        zero: set[str] | None = None
        still: set[str] = set()
        steps, seen, epochs = 0, 0, 0.0
        for entry in reversed(windows):
            none = {name for name, norm in entry.measures["gradient_norm"].items() if float(norm) == 0}
            same = {name for name, change in entry.measures.get("parameter_change", {}).items() if float(change) == 0}
            zero, still = (none, same) if zero is None else (zero & none, still & same)
            steps, seen = steps + entry.window.steps, seen + entry.window.measured
            epochs += _epochs(entry.window)
            if steps >= self.steps and seen >= measured and epochs > 0.999:
                return zero, still
        return None

    def _verdicts(
        self,
        fault: str,
        names: list[str],
        trainable: list[str],
        uncalled: dict[str, str],
        window: Window,
        dead: list[str],
        faint: str,
    ) -> Iterable[Verdict]:
        modules: dict[str, list[str]] = {}
        for name in names:
            modules.setdefault(name.rpartition(".")[0], []).append(name.rpartition(".")[2])
        for module, own in modules.items():
            siblings = [n.rpartition(".")[2] for n in trainable if n.rpartition(".")[0] == module]
            if len(own) < len(siblings) and "weight" not in own:
                continue  # a bias in front of a norm or a softmax has no gradient by nature
            what = f"{module}.{{{', '.join(own)}}}" if len(own) > 1 else f"{module}.{own[0]}".lstrip(".")
            unused = uncalled.get(module)
            severity = Severity.CRITICAL if len(names) == len(trainable) else Severity.SERIOUS
            message, cause, remedy = {
                "no gradient": (f"no gradient has reached {what}", *_why_none(module or what, unused, dead, faint)),
                "no optimizer": (
                    f"{what} gets a gradient but is in no optimizer",
                    "configure_optimizers was given a part of the parameters",
                    f"pass {what} to the optimizer, or set requires_grad = False if it is meant",
                ),
                "never moved": (f"{what} gets a gradient but has not moved", *_why_still(what, window, faint)),
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


def _epochs(window: Window) -> float:
    """Epochs that the steps of a window make up; infinite where the length of an epoch is not known."""
    return window.trained * window.steps / window.seen if window.seen else 0.0


def _idle(trainable: list[str], uncalled: dict[str, str], called: set[str]) -> dict[str, str]:
    """Norms and the like, whose calls nobody watches, in blocks whose layers were not called."""
    found = {}
    for module in {name.rpartition(".")[0] for name in trainable} - uncalled.keys() - called:
        block = module.rpartition(".")[0] + "."
        reasons = [reason for name, reason in uncalled.items() if name.startswith(block)]
        if reasons and not any(name.startswith(block) for name in called):
            found[module] = reasons[0]
    return found


def _faint(gradient_norm: Mapping[str, Tensor], names: list[str]) -> str:
    """How small the gradients of some parameters are, where they have vanished beside those of the others."""
    greatest = max(map(float, gradient_norm.values()), default=0.0)
    ratio = max((float(gradient_norm[name]) for name in names), default=0.0) / (greatest or 1.0)
    faintest = min((float(norm) for norm in gradient_norm.values() if float(norm) > 0), default=math.inf)
    if 0 < ratio < VANISHED:
        return f"{ratio:.0e} of the largest"
    return f"{faintest:.0e} in the faintest of those behind it" if ratio == 0 and faintest < UNDERFLOW else ""


def _why_still(what: str, window: Window, faint: str) -> tuple[str, str]:
    """Cause and remedy of a parameter that does not move though it has a gradient."""
    if faint:
        return (
            f"its gradient is {faint}: a change so small is rounded away",
            f"do not let the gradient vanish on its way to {what}: normalisation, residual connections, ReLU-like "
            "activations",
        )
    return (
        f"its learning rate is 0 (the largest is {window.learning_rate:.2g}) or so small that updates are rounded away",
        f"check the learning rate of {what}'s parameter group, or keep float32 weights",
    )


def _why_none(place: str, unused: str | None, dead: list[str], faint: str) -> tuple[str, str]:
    """Cause and remedy of a gradient that does not arrive."""
    if unused:
        return f"the module was {unused}", (
            f"remove {place} or set requires_grad = False; if something routes to it, balance the load"
        )
    if dead:
        layers = ", ".join(dead)
        return (
            f"no neuron of {layers} has any slope: nothing gets back through them, and dead ones pass nothing on",
            f"cure {layers} first",
        )
    if faint:
        return (
            f"the gradient vanishes on its way back: its norm is {faint}, and next to nothing becomes 0",
            f"add a normalisation or residual connections behind {place}, or use ReLU-like activations",
        )
    return (
        "the graph is cut behind it, nothing uses it, or everything behind it is dead",
        f"look for detach(), no_grad(), .data or argmax between {place} and the loss, or set "
        "requires_grad = False if it is meant",
    )
