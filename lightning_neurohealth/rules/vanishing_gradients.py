"""Gradients that shrink on the way back to the input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.window import Past, Window


@dataclass(frozen=True, kw_only=True)
class VanishingGradients(RunRule):
    """What it finds: the gradient of an element of one weight matrix is, on root mean square, less than 1e-5 of
    another's while the loss has not converged; in adversarial training also less than 1e-3 of what it was at the
    start.

    Why it hurts: the layers with the small gradients stay as they were initialised.

    Remedies: residual connections, normalisation, ReLU-like activations, initialisation for the activation.

    Sources: Hochreiter (1991), Glorot and Bengio (2010). The variance ratio of the technical deep dive (S2) is upside
    down: it calls gradients that grow towards the input vanishing. Absolute bounds depend on the loss.

    Attributes:
        steps: Training steps that must have shown it.
        converged: Fall of the loss, as a share, from which on small gradients are expected.
        waking: Growth of a layer's share since the first window that shows a branch scaled down on purpose (layer
            scale, a small residual gamma), which learns its scale first.
        early: In adversarial training, the share of its own first window under which a gradient has vanished.
    """

    warning: float = 1e-4
    serious: float = 1e-5
    critical: float = 1e-8
    steps: int = 20
    converged: float = 0.95
    early: float = 1e-3
    waking: float = 10.0

    def judge(
        self,
        layers: dict[str, Layer],
        parameters: Parameters,
        window: Window,
        past: list[Past],
        gradient_rms: dict[str, Tensor],
    ) -> Iterable[Verdict]:
        if window.seen < self.steps or window.progress.fall >= self.converged:
            return
        trainable = dict(zip(parameters.names, parameters.trainable(), strict=True))
        sizes = {
            name: float(gradient_rms[layer.weight])
            for name, layer in layers.items()
            if layer.weight in gradient_rms and trainable[layer.weight]
        }
        alive = {name: rms for name, rms in sizes.items() if 0 < rms < float("inf")} | self._underflowed(sizes)
        first = past[0].measures["gradient_rms"] if past else {}
        sides: dict[int | None, dict[str, float]] = {}
        for name, rms in alive.items():
            # the losses of adversaries have nothing to do with each other
            side = parameters.optimizer_of.get(layers[name].weight or "") if window.progress.adversarial else None
            sides.setdefault(side, {})[name] = rms
        found = [verdict for part in sides.values() for verdict in self._along(part, layers, first)]
        yield from found
        if not found and window.progress.adversarial and past:
            for part in sides.values():
                yield from self._starved(part, layers, first)

    def _underflowed(self, sizes: dict[str, float]) -> dict[str, float]:
        """Layers before the faintest of those that vanish whose gradient is 0: squares under 1e-45 are, in float32."""
        known = {name: rms for name, rms in sizes.items() if 0 < rms < float("inf")}
        if not known or min(known.values()) >= self.critical * max(known.values()):
            return {}
        names = list(sizes)
        before = names[: names.index(min(known, key=known.__getitem__))]
        return {name: 0.0 for name in before if sizes[name] == 0}

    def _along(self, alive: dict[str, float], layers: dict[str, Layer], first: dict[str, Tensor]) -> Iterable[Verdict]:
        if len(alive) < 2:
            return
        most = max(alive, key=alive.__getitem__)
        small = [name for name in alive if alive[name] < self.warning * alive[most]]
        small = [name for name in small if not self._wakes(name, most, alive, layers, first)]
        if small:
            severity = max(self._severity(alive[name] / alive[most]) for name in small)
            # the first that is as bad: which is the least of all changes from window to window
            least = next(n for n in layers if n in small and self._severity(alive[n] / alive[most]) is severity)
            ratio = alive[least] / alive[most]
            yield Verdict(
                severity=severity,
                value=ratio,
                threshold=(self.warning, self.serious, self.critical)[severity - 1],
                layer=least,
                message=f"an element's gradient is {alive[least]:.1g} in {least} but {alive[most]:.1g} in {most}, "
                + (f"{ratio:.1g} of it" if ratio else "so small that its square is 0 in float32"),
                cause=_cause(layers, least, most),
                remedy=f"initialise the layers from {least} on for their activation, add residual connections or a "
                "normalisation between them, or use ReLU-like activations",
            )

    def _severity(self, ratio: float) -> Severity:
        return Severity(1 + (ratio < self.serious) + (ratio < self.critical))

    def _wakes(
        self, name: str, most: str, alive: dict[str, float], layers: dict[str, Layer], first: dict[str, Tensor]
    ) -> bool:
        """True if the layer's share has grown since the first window, as in a branch that starts at next to nothing."""
        start, largest = (float(first.get(layers[n].weight or "", 0.0)) for n in (name, most))
        return 0 < self.waking * start * alive[most] < alive[name] * largest

    def _starved(
        self, alive: dict[str, float], layers: dict[str, Layer], first: dict[str, Tensor]
    ) -> Iterable[Verdict]:
        """A side whose gradients are next to nothing beside what they were: which side suffers, and which has won,
        cannot be told from here."""
        starts = {name: float(first.get(layers[name].weight or "", 0.0)) for name in alive}
        starved = [name for name in layers if name in alive and alive[name] < self.early * starts[name]]
        if starved:
            name = starved[0]
            share = alive[name] / starts[name]
            more = f", and so have those of {len(starved) - 1} more that learn with it" if starved[1:] else ""
            yield Verdict(
                severity=Severity.SERIOUS,
                value=share,
                threshold=self.early,
                layer=name,
                message=f"the gradient of {name} has fallen to {share:.1g} of what it was in the first window{more}",
                cause="its adversary is so sure that nothing flows back, or it is the one that has won",
                remedy="weaken the stronger side (learning rate, fewer steps, label smoothing), or use a loss that "
                "does not saturate",
            )


def _cause(layers: dict[str, Layer], least: str, most: str) -> str:
    order = list(layers)
    between = layers if least == most else order[min(order.index(least), order.index(most)) :]
    bounded = sorted({layers[n].function.name for n in between if layers[n].function.saturates})
    if order.index(least) > order.index(most):
        return f"little of the loss depends on {least}: a branch that is scaled down, or a layer behind it that is dead"
    names = f"the slopes of {', '.join(bounded)}" if bounded else "weights and slopes"
    return f"every layer between {least} and {most} multiplies the gradient with {names} below 1"
