"""What is known at the end of a window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_neurohealth.activations.activation import CUTOFF
from lightning_neurohealth.breakdown import Breakdown
from lightning_neurohealth.coverage import Coverage
from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.life import Life

if TYPE_CHECKING:
    from typing_extensions import Self

    from lightning_neurohealth.layers import Layer
    from lightning_neurohealth.measuring import Numbers
    from lightning_neurohealth.window import Window


@dataclass(frozen=True)
class LayerReport(Mapping[str, Tensor]):
    """The measures of one layer in one window, each a tensor of one number a neuron, or one.

    Attributes:
        name, activation, neurons: Which layer.
        function: The activation function, e.g. ``"relu"``; ``"identity"`` where there is none.
        output: True for a layer that nothing with weights reads.
        severity: The worst finding on this layer.
        life: The life-cycle of its neurons up to this window: who is silent, since when, who came back; ``None`` where
            it is not followed, and in reports that were thinned.
    """

    name: str
    neurons: int
    measures: Mapping[str, Tensor]
    activation: str | None = None
    function: str = "identity"
    output: bool = False
    severity: Severity = Severity.HEALTHY
    life: Life | None = field(default=None, compare=False)

    def __getitem__(self, measure: str) -> Tensor:
        try:
            return self.measures[measure]
        except KeyError:
            known = ", ".join(self.measures)
            raise KeyError(f"{self.name} has no measure {measure!r} in this window; it has {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.measures)

    def __len__(self) -> int:
        return len(self.measures)

    @cached_property
    def means(self) -> dict[str, float]:
        """Measure to its mean over neurons, NaN where one of them is; without measures that hold no number."""
        alike: dict[tuple[torch.Size, torch.dtype], list[str]] = {}
        for name, values in self.measures.items():
            if values.numel():
                alike.setdefault((values.shape, values.dtype), []).append(name)
        found: dict[str, float] = {}
        for names in alike.values():  # together: one at a time takes seconds for a long run of many layers
            rows = torch.stack([self.measures[name].flatten() for name in names]).double().mean(1)
            found.update(zip(names, rows.tolist(), strict=True))
        return {name: found[name] for name in self.measures if name in found}


@dataclass(frozen=True)
class Record(Mapping[str, LayerReport]):
    """The measures and findings of one window; a mapping of layers in the order of execution.

    Attributes:
        index: 0 for the first window.
        epoch, step: The trainer's epoch and global step at the end of the window.
        steps, measured: Training steps in the window, and how many of them were measured.
        findings: The worst first.
        recovered: Findings of the window before that are gone.
        layers: Layer name to its measures.
        run: Measures of the whole run: a series is a tensor of its points.
        parameters: Parameter name to its measures.
        coverage: What was seen and what was not.
        not_judged: Rules that could not speak, with the reason.
        last: True for the last report of a run.
        every_n_steps: One training step in so many was measured.
        saturation_cutoff: From where on ``saturation_rate`` counts an end that f only approaches as reached.
        overhead: Where a budget was set, what watching has taken as a share of the time without it; else ``None``.
        breakdown: Where the run began to break, if it did: the first signal that exploded or was no number in the last
            measured steps before an exception or a NaN; else ``None``.
        previous: The report before.
    """

    index: int
    epoch: int
    step: int
    steps: int
    measured: int
    layers: Mapping[str, LayerReport]
    run: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    recovered: list[Finding] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    not_judged: Mapping[str, str] = field(default_factory=dict)
    last: bool = False
    every_n_steps: int = 1
    saturation_cutoff: float = CUTOFF
    overhead: float | None = None
    breakdown: Breakdown | None = None
    previous: Record | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_window(
        cls, window: Window, numbers: Numbers, layers: Mapping[str, Layer], lives: Mapping[str, Life], **rest: Any
    ) -> Self:
        """The report of ``window``, with copies of ``lives``; ``rest`` are attributes as they stand above."""
        worst = worst_by_layer(rest["findings"])
        return cls(
            index=window.index,
            epoch=window.epoch,
            step=window.step,
            steps=window.steps,
            measured=window.measured,
            last=window.last,
            breakdown=window.breakdown,
            layers={
                name: LayerReport(
                    name,
                    layer.neurons,
                    numbers.of(layer),
                    layer.activation,
                    layer.function.name,
                    layer.output,
                    worst.get(name, Severity.HEALTHY),
                    lives[name].copy() if name in lives else None,
                )
                for name, layer in layers.items()
            },
            run=numbers.run,
            parameters=numbers.parameters,
            **rest,
        )

    def __getitem__(self, layer: str) -> LayerReport:
        try:
            return self.layers[layer]
        except KeyError:
            why = self.coverage.missed.get(layer)
            raise KeyError(
                f"no layer is called {layer!r}" + (f" ({why})" if why else "") + f"; there are {', '.join(self.layers)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def severity(self) -> Severity:
        """The worst finding."""
        return max((finding.severity for finding in self.findings), default=Severity.HEALTHY)

    @property
    def score(self) -> float:
        """From 0, every layer critical, to 1, nothing found: one minus the mean severity of the layers.

        A finding on the whole run counts for every layer.
        """
        if not self.layers:
            return 1.0
        run = max((f.severity for f in self.findings if f.layer not in self.layers), default=Severity.HEALTHY)
        badness = sum(max(layer.severity, run) for layer in self.layers.values())
        return 1.0 - badness / (len(self.layers) * int(Severity.CRITICAL))

    def of(self, layer: str | None) -> list[Finding]:
        """Findings on one layer, or on the run as a whole."""
        return [finding for finding in self.findings if finding.layer == layer]

    def scalars(self) -> dict[str, float]:
        """The few numbers that a dashboard gets by default: the score, and the worst value of each condition found."""
        worst: dict[str, float] = {}
        for finding in self.findings:
            worst.setdefault(finding.condition, finding.value)
        for finding in self.recovered:
            worst.setdefault(finding.condition, 0.0)
        return {"score": self.score, **worst}

    def to_dict(self) -> dict[str, Any]:
        """Where, when and what was found, in plain containers fit for JSON; without the measures of single neurons.

        Under ``life``, of each layer of which a neuron was ever silent, what :meth:`Life.to_dict` tells.
        """
        lives = {name: layer.life.to_dict() for name, layer in self.layers.items() if layer.life is not None}
        return {"schema": 1, **self.facts(), "life": {name: life for name, life in lives.items() if life}}

    def facts(self) -> dict[str, Any]:
        """The same without what every neuron has been through."""
        return {
            "index": self.index,
            "epoch": self.epoch,
            "step": self.step,
            "steps": self.steps,
            "measured": self.measured,
            "every_n_steps": self.every_n_steps,
            "saturation_cutoff": self.saturation_cutoff,
            "score": self.score,
            "severity": self.severity.name,
            "findings": [finding.to_dict() for finding in self.findings],
            "recovered": [finding.to_dict() for finding in self.recovered],
            "coverage": {
                "watched": list(self.coverage.watched),
                "missed": dict(self.coverage.missed),
                "unfed": sorted(self.coverage.unfed),
                "parameters": self.coverage.parameters,
                "shares": dict(self.coverage.shares),
                "elsewhere": dict(self.coverage.elsewhere),
            },
            "not_judged": dict(self.not_judged),
            **({} if self.breakdown is None else {"breakdown": self.breakdown.to_dict()}),
            **({} if self.overhead is None else {"overhead": self.overhead}),
        }


def worst_by_layer(findings: Iterable[Finding]) -> dict[str | None, Severity]:
    """The worst severity on each layer that has a finding, and under ``None`` on the run."""
    worst: dict[str | None, Severity] = {}
    for finding in findings:
        worst[finding.layer] = max(worst.get(finding.layer, Severity.HEALTHY), finding.severity)
    return worst
