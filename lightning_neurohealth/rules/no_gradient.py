"""Parameters that cannot learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.life import Life
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.window import Past, Window

VANISHED, UNDERFLOW = 1e-5, 1e-8
"""Shares of the largest gradient: that has vanished, and behind which it may have become 0 (vanishing_gradients)."""


@dataclass(frozen=True, kw_only=True)
class NoGradient(RunRule):
    """What it finds: trainable parameters without any gradient at every measured step, with a gradient but in no
    optimizer, or in an optimizer and never moved.

    Why it hurts: they stay as they were initialised. A parameter that no optimizer has and no gradient reaches is
    left out, as in target networks and teachers.

    Not called on any of the steps: a WARNING, as of an expert to which nothing is routed. Nothing to say where all
    gradients are 0 because the loss is: a margin that every row keeps, on all steps or, in a network that has learned,
    on those that were measured. Where gradients vanish along the depth, which vanishing_gradients says, all that they
    do not move is one WARNING.

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
        progress = window.progress
        if zero.issuperset(trainable) and (progress.now == 0 or (progress.learning and 0 in progress.recent)):
            return
        uncalled = {name: reason for name, reason in silent.items() if reason == "never called"}
        uncalled |= dict.fromkeys(lives.keys() - layers.keys(), "not called on any of these steps")
        uncalled |= _idle(trainable, uncalled, {layer.owner or layer.name for layer in layers.values()})
        dead = [name for name, life in lives.items() if bool(life.silent.all()) and int(life.windows.min()) > 0]
        dead += [name for name, steep in (slope or {}).items() if name not in dead and not bool(steep.any())]
        half = {n for n, p in zip(parameters.names, parameters.tensors, strict=True) if p.dtype == torch.float16}
        for fault, names in faults.items():
            faint = _faint(names, layers, gradient_norm) if fault != "no optimizer" else []
            others = [name for name in names if name.rpartition(".")[0] not in faint]
            yield from self._verdicts(fault, others, trainable, uncalled, window, dead, half)
            if faint:
                yield _vanished(faint)

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
        half: set[str],
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
                "no gradient": (
                    f"no gradient has reached {what}",
                    *_why_none(module or what, unused, dead, f"{module}.{own[0]}".lstrip(".") in half),
                ),
                "no optimizer": (
                    f"{what} gets a gradient but is in no optimizer",
                    "configure_optimizers was given a part of the parameters",
                    f"pass {what} to the optimizer, or set requires_grad = False if it is meant",
                ),
                "never moved": (
                    f"{what} gets a gradient but has not moved",
                    f"its learning rate is 0 (the largest is {window.learning_rate:.2g}) or so small that updates are "
                    "rounded away",
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


def _faint(names: list[str], layers: dict[str, Layer], gradient_norm: Mapping[str, Tensor]) -> list[str]:
    """Modules whose gradient has vanished on its way back, so that it moves nothing or is 0; in the order of execution.

    A gradient of 0 has vanished where that of a layer behind it has: squares under 1e-45 are 0 in float32.
    """
    norms = {
        layer.owner: float(gradient_norm[layer.weight])
        for layer in layers.values()
        if layer.owner is not None and layer.weight is not None and layer.weight in gradient_norm
    }
    greatest, order = max(map(float, gradient_norm.values()), default=0.0), list(norms)
    faint = {owner for owner, norm in norms.items() if 0 < norm < VANISHED * greatest}
    faintest = min(faint, key=norms.__getitem__, default=None)
    if faintest is not None and norms[faintest] < UNDERFLOW * greatest:
        faint |= {owner for owner in order[: order.index(faintest)] if norms[owner] == 0}
    at_fault = {name.rpartition(".")[0] for name in names}
    return [owner for owner in order if owner in faint & at_fault]


def _vanished(faint: list[str]) -> Verdict:
    more = f" and {len(faint) - 1} more" if len(faint) > 1 else ""
    return Verdict(
        severity=Severity.WARNING,
        value=VANISHED,
        threshold=VANISHED,
        layer=faint[0],
        message=f"{faint[0]}{more} have not moved: less than {VANISHED:.0e} of the largest gradient reaches them",
        cause="the gradient vanishes on its way back, and updates so small are rounded away",
        remedy=f"keep the gradient from vanishing between the loss and {faint[0]}: residual connections, "
        "normalisation, ReLU-like activations, or an initialisation for the activation",
    )


def _why_none(place: str, unused: str | None, dead: list[str], half: bool) -> tuple[str, str]:
    """Cause and remedy of a gradient that does not arrive, at parameters in half precision or not."""
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
    if half:
        return (
            "the graph is cut behind it, or in float16 the gradient is rounded to 0: it ends at 6e-8",
            "multiply the loss (a GradScaler: precision='16-mixed') or use bfloat16; else look for detach(), no_grad() "
            f"or argmax between {place} and the loss",
        )
    return (
        "the graph is cut behind it, nothing uses it, or everything behind it is dead",
        f"look for detach(), no_grad(), .data or argmax between {place} and the loss, or set "
        "requires_grad = False if it is meant",
    )
