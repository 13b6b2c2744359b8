"""Preflight: is a model fit to be trained? One forward and one backward tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Table
from torch import nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.interventions.expected import ExpectedLoss
from lightning_neurohealth.interventions.task import Loss, Step, Task, batches
from lightning_neurohealth.interventions.untouched import device_of, untouched
from lightning_neurohealth.monitor import Monitor
from lightning_neurohealth.record import LayerReport
from lightning_neurohealth.report import Report
from lightning_neurohealth.rules import all_rules
from lightning_neurohealth.settings import Settings

MEASURES = ("activation_rows", "activation_scale", "gradient_rms", "init_scale", "zero_rate")
RULES = ("poor_initialization", "non_finite")
SURE = 2.0
"""How far the first cross-entropy may lie above log(classes): for Gaussian logits of spread σ it does by σ²/2, so 2 is
σ = 2, a network that is sure of random answers."""
FAR = 10.0
"""How many variances of the targets the first squared error may be: more, and it first has to learn their mean."""
DEAD = 0.5
"""Share of a layer's neurons that may be silent on the whole batch: the band of CRITICAL dead neurons, and what is
silent by chance where all rows look alike, as they do deep inside plain ReLU networks; so three standard deviations of
that chance come on top."""
ROWS = 16
"""Fewest rows on which neurons are called silent: one that fires on every fourth is silent on 16 once in a hundred."""
FAINT = 1e-4
"""Least ratio of the gradient of a weight at either end of the depth to the largest: it is the product of what flows
forward and what flows back, and each may fall a hundredfold along the depth before it counts as poor initialisation."""
END = 3
"""Layers that make an end; the largest gradient among them counts. Queries and keys, two in a row, hardly get any while
attention is still even, and that is no fault."""


@dataclass(frozen=True)
class Birth:
    """A layer before its first update.

    Attributes:
        activation_scale: Spread of its neurons over the batch, median over neurons.
        gradient_rms: Root mean square of the gradient of an element of its weight, NaN where it has none.
        init_scale: Spread of its weights over that which keeps variances, NaN where it has none.
        dead: Share of its neurons that are silent on the whole batch.
    """

    activation_scale: float
    gradient_rms: float
    init_scale: float
    dead: float


@dataclass(frozen=True)
class Preflight:
    """What one forward and one backward have shown.

    Attributes:
        loss: Loss of the batch.
        expected: Loss of a network that knows nothing: log(classes), or the variance of the targets; NaN where the
            kind of loss is not known.
        layers: Layer to what it is like, in the order of execution.
        problems: What is wrong, one sentence each.
        report: All that was measured.
    """

    loss: float
    expected: float
    layers: Mapping[str, Birth]
    problems: tuple[str, ...]
    report: Report = field(repr=False)

    @property
    def healthy(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        known = "" if math.isnan(self.expected) else f" (knowing nothing: {self.expected:.4g})"
        return "\n".join([f"initial loss {self.loss:.4g}{known}", *(f"  {p}" for p in self.problems or ["healthy"])])

    def __rich__(self) -> Table:
        table = Table(title=str(self), title_justify="left")
        for column in ("layer", "activation scale", "gradient of weight", "init scale", "dead"):
            table.add_column(column, justify="left" if column == "layer" else "right")
        for name, birth in self.layers.items():
            numbers = (birth.activation_scale, birth.gradient_rms, birth.init_scale)
            table.add_row(name, *("" if math.isnan(x) else f"{x:.3g}" for x in numbers), f"{birth.dead:.0%}")
        return table


def check_initialization(
    model: nn.Module, batch: Any, *, loss: Loss | None = None, step: Step | None = None, hook_root: bool = True
) -> Preflight:
    """Look at a model before its first update: one forward and one backward in training mode, then all is as before.

    Args:
        model: On one device.
        batch: One batch ``(*inputs, target)``, or whatever ``step`` takes.
        loss: ``loss(output, target)``; by default a LightningModule's ``training_step``, else cross-entropy where
            targets are whole numbers and mean squared error elsewhere.
        step: ``step(model, batch)``, the loss as a scalar, for everything else.
        hook_root: False where a wrapper calls the model's forward for something else.

    Raises:
        TypeError, ValueError: The batch gives no loss, or the model cannot be watched.
    """
    device = device_of(model)
    task = Task.of(model, loss, step)
    (batch,) = batches([batch], device)
    rules = [rule(grace=0) for name, rule in all_rules().items() if name in RULES]
    settings = Settings(every_n_steps=1, measures=("economy", *MEASURES), rules=rules)
    with untouched(model, training=True), torch.enable_grad():
        monitor = Monitor.of(model, settings, hook_root)
        monitor.taps.failure = None  # here a fault of ours is no harm to a run
        try:
            with ExpectedLoss() as expected, monitor:
                value = task(model, batch)
                _backward(model, value)
                monitor.record_loss(value)
            report = monitor.close(last=True)
        finally:
            monitor.remove()
    assert report is not None
    layers = {name: _birth(layer) for name, layer in report.items()}
    initial = float(value.detach())
    problems = (*_of_loss(initial, expected), *_of_layers(layers, report), *_of_report(report))
    return Preflight(initial, expected.value, layers, problems, report)


def assert_healthy(model: nn.Module, batch: Any, *, loss: Loss | None = None, step: Step | None = None) -> None:
    """Fail a test whose model is not fit to be trained: ``assert_healthy(MyModel(), batch)`` in pytest.

    Args: As :func:`check_initialization`.

    Raises:
        AssertionError: With everything that is wrong.
    """
    found = check_initialization(model, batch, loss=loss, step=step)
    if not found.healthy:
        raise AssertionError(f"{type(model).__name__} is not fit to be trained: {found}")


def _backward(model: nn.Module, loss: torch.Tensor) -> None:
    """Gradients without ``backward``: the hooks by which data-parallel wrappers average them must not run."""
    if not loss.requires_grad:
        raise ValueError("the loss has no gradient: no parameter that it comes from is trainable")
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        parameter.grad = gradient


def _birth(layer: LayerReport) -> Birth:
    def number(measure: str) -> float:
        return float(layer[measure]) if measure in layer else math.nan

    dead = float((layer["zero_rate"] >= 1).double().mean()) if "zero_rate" in layer else 0.0
    return Birth(number("activation_scale"), number("gradient_rms"), number("init_scale"), dead)


def _of_loss(loss: float, expected: ExpectedLoss) -> list[str]:
    if math.isnan(expected.value) or not math.isfinite(loss):
        return []
    if expected.kind == "mse_loss":
        if expected.value > 0 and loss > FAR * expected.value:
            return [
                f"the first loss is {loss:.3g}, {loss / expected.value:.3g} times the variance of the targets: "
                "standardise the targets, or set the bias of the last layer to their mean"
            ]
    elif loss > expected.value + SURE:
        return [
            f"the first loss is {loss:.3g}, and {expected.value:.3g} would be that of a network that knows nothing: "
            "the outputs are too large; initialise the last layer smaller, or normalise the inputs"
        ]
    return []


def _of_layers(layers: Mapping[str, Birth], report: Report) -> list[str]:
    problems = [
        f"{birth.dead:.0%} of the neurons of {name} are silent on the whole batch: initialise it for its activation, "
        "with a small positive bias"
        for name, birth in layers.items()
        if float(report[name].get("activation_rows", torch.zeros(()))) >= ROWS
        and birth.dead >= min(1.0, DEAD + 3 * (DEAD * (1 - DEAD) / report[name].neurons) ** 0.5)
    ]
    sizes = {name: birth.gradient_rms for name, birth in layers.items() if birth.gradient_rms > 0}
    few = min(END, len(sizes) - 1)
    ends = (list(sizes)[:few], list(sizes)[-few:]) if few > 0 else ()
    for end in ends:
        least, most = max(end, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        if sizes[least] < FAINT * sizes[most]:
            problems.append(
                f"the gradient of {least} is {sizes[least] / sizes[most]:.1g} of that of {most}: initialise for the "
                "activations, see initialize(); or use norms or residual connections"
            )
    return problems


def _of_report(report: Report) -> list[str]:
    return [f"{f.message}: {f.remedy}" for f in report.findings if f.severity >= Severity.WARNING]
