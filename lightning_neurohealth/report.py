"""What is known at the end of a window."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console, RenderableType
from torch import Tensor

from lightning_neurohealth.breakdown import Breakdown
from lightning_neurohealth.coverage import Coverage
from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.life import Life
from lightning_neurohealth.packing import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from lightning_neurohealth.layers import Layer
    from lightning_neurohealth.measuring import Numbers
    from lightning_neurohealth.window import Window

__all__ = ["Coverage", "Finding", "LayerReport", "Report", "Severity"]


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
class Report(Mapping[str, LayerReport]):
    """The measures and findings of one window; a mapping of layers in the order of execution.

    >>> report["fc1"]["on_rate"]  # doctest: +SKIP
    tensor([0.51, 0.48, ...])

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
    overhead: float | None = None
    breakdown: Breakdown | None = None
    previous: Report | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_window(
        cls, window: Window, numbers: Numbers, layers: Mapping[str, Layer], lives: Mapping[str, Life], **rest: Any
    ) -> Report:
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

    def to_json(self) -> str:
        """This window and those before it as one JSON document, which :meth:`load` reads back.

        It holds the findings and the mean of every measure of every window, and each neuron's numbers: of all measures
        in this window, of ``on_rate``, ``saturation_rate`` and ``gradient_flow`` in those before; of learned shapes 20
        windows. Numbers are packed in single precision.
        """
        from lightning_neurohealth.reporting.archive import to_document

        return json.dumps(to_document(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """The last report of a run, with its predecessors, from what :meth:`save` or a run has written.

        Args:
            path: The file, or the folder of a run that has one: ``report.json``, in ``neurohealth`` or by itself.

        Raises:
            FileNotFoundError: There is no report.
            ValueError: The file is none of ours, damaged, or of a newer version.
        """
        from lightning_neurohealth.reporting.archive import load

        return load(Path(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this window and those before it, in the format that the name's end says.

        ``.html``: one page that explains itself and works offline (needs plotly); ``.json``: what :meth:`load` reads;
        ``.csv``: the table of :meth:`to_frame` (needs pandas).

        Raises:
            ValueError: The name has another end.
        """
        end = Path(path).suffix.lower()
        if end == ".html":
            from lightning_neurohealth.sinks.page import html_page

            text = html_page(self)
        elif end == ".json":
            text = self.to_json()
        elif end == ".csv":
            text = self.to_frame().to_csv(index=False)
        else:
            raise ValueError(f"save({str(path)!r}): the name must end in .html, .json or .csv")
        replace_file(Path(path), text)

    def to_frame(self) -> DataFrame:
        """A pandas table with a row for each window so far, layer and measure: the mean over neurons.

        Columns: window, epoch, step, layer, measure, value. Rows of the run as a whole have no layer; of a series, such
        as ``train_loss``, ``value`` is the mean of its points.
        """
        from lightning_neurohealth.reporting.history import History

        return History.of(self).frame()

    def plot(self, measure: str | None = None, layer: str | None = None, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draw the windows so far with matplotlib, as torchmetrics' ``plot`` does.

        Args:
            measure: ``None`` for ``"on_rate"``.
            layer: ``None`` for layers × windows; else neurons × windows of one layer, or a line for a measure that has
                one number a layer. ``"learned_shape"`` is drawn as curves: of each layer, or of one in several windows.
            ax: Where to draw; ``None`` for a figure of its own.

        Returns:
            The figure and its axes.

        Raises:
            KeyError: No window has such a layer or measure.
        """
        from lightning_neurohealth.sinks.plots import plot

        return plot(self, "on_rate" if measure is None else measure, layer, ax)

    def __rich__(self) -> RenderableType:
        from lightning_neurohealth.reporting.table import HealthTable

        return HealthTable(self)

    def __str__(self) -> str:
        # in the characters of stdout, so that print() never fails
        out = io.TextIOWrapper(io.BytesIO(), encoding=getattr(sys.stdout, "encoding", None) or "utf-8")
        width = max(shutil.get_terminal_size((100, 24)).columns, 40)
        Console(file=out, width=width, color_system=None, force_terminal=False).print(self)
        out.seek(0)
        return "\n".join(line.rstrip() for line in out.read().splitlines())

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=110)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre style='line-height:1.2'>{code}</pre>")


def worst_by_layer(findings: Iterable[Finding]) -> dict[str | None, Severity]:
    """The worst severity on each layer that has a finding, and under ``None`` on the run."""
    worst: dict[str | None, Severity] = {}
    for finding in findings:
        worst[finding.layer] = max(worst.get(finding.layer, Severity.HEALTHY), finding.severity)
    return worst
