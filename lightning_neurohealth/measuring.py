"""From statistics to numbers."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from lightning_neurohealth.across import Across
from lightning_neurohealth.alike import grouped
from lightning_neurohealth.counting.ledger import Book
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.parameters import Parameters, Run
from lightning_neurohealth.signals import FLOWS
from lightning_neurohealth.statistics import Subject


@dataclass
class Numbers:
    """The measures of one window: by layer, by parameter, and of the run.

    Attributes:
        failed: Measures that raised, each with its first error.
    """

    layers: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    parameters: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    run: dict[str, Tensor] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def any_non_finite(self) -> bool:
        """True if something was seen in the window that was no finite number."""
        steps = [self.run.get(name) for name in ("nonfinite_loss_step", "nonfinite_gradient_step")]
        steps += [measures.get("nonfinite_step") for measures in self.layers.values()]
        return any(math.isfinite(float(step)) for step in steps if step is not None)

    @cached_property
    def across(self) -> Across:
        """Measure to its tensor, or to a mapping of names to tensors."""
        return Across(self.run, (self.layers, self.parameters))

    def of(self, layer: Layer) -> dict[str, Tensor]:
        """The measures of one layer, its weight's among them."""
        weight = self.parameters.get(layer.weight, {}) if layer.weight else {}
        return {**weight, **self.layers.get(layer.name, {})}


def measure_all(
    measures: Iterable[Measure],
    books: Mapping[Subject, Book],
    layers: Mapping[str, Layer],
    parameters: Parameters,
    run: Run,
) -> Numbers:
    """Every measure of every subject that has what the measure needs."""
    numbers = Numbers(layers={name: {} for name in layers})
    of_layers = [books[layer] for layer in layers.values()]
    alike, others = grouped(layers, of_layers)
    for measure in measures:
        if measure.subject == "layer":
            single = others.copy()
            for group in alike:
                try:
                    for name, number in group.values(measure).items():
                        numbers.layers[name][measure.name] = number
                except Exception:  # one by one it is known whose it is, or there is none
                    single.update(group.names)
            _one_by_one(measure, layers, of_layers, single, numbers)
        elif measure.subject == "parameters":
            value = _try(measure, parameters, books.get(parameters, {}), numbers)
            if value is not None:
                for name, number in zip(parameters.names, value, strict=True):
                    numbers.parameters.setdefault(name, {})[measure.name] = number
                if measure.over_run == "median":
                    numbers.run[measure.name] = _median_of_matrices(value, parameters)
        else:
            value = _try(measure, run, books.get(run, {}), numbers)
            if value is not None:
                numbers.run[measure.name] = value
    numbers.layers = {name: found for name, found in numbers.layers.items() if found}
    return numbers


def _one_by_one(
    measure: Measure, layers: Mapping[str, Layer], books: Sequence[Book], names: Container[str], numbers: Numbers
) -> None:
    for (name, layer), book, after in zip(layers.items(), books, [*books, {}][1:], strict=True):
        value = _try(measure, layer, book, numbers, f" on {name}", after) if name in names else None
        if value is not None:
            numbers.layers[name][measure.name] = value


def saw_nothing(book: Book) -> bool:
    """True for a layer of which no row has come in the window."""
    flowing = [s for signal in FLOWS for s in book.get(signal, ())]
    return bool(flowing) and not any(float(statistic.new_rows) for statistic in flowing)


def unfed(numbers: Numbers, chosen: Container[str], bad_loss: str, unanswered: str) -> dict[str, str]:
    """Measures of which nothing came in the window, each with the reason.

    Args:
        chosen: Names of the measures that are computed.
        bad_loss: What was given for a loss and was none; empty if nothing was.
        unanswered: Why it is not known where the model was right.
    """
    reasons = {}
    if "train_loss" in numbers.run and not numbers.run["train_loss"].numel():
        what = f"it was {bad_loss}, not one number" if bad_loss else "none was seen"
        reasons["train_loss"] = f"no loss: {what}; progress, plateaus, spikes and the like cannot be judged"
    if "validation_history" in numbers.run and not numbers.run["validation_history"].numel():
        reasons["validation_history"] = (
            "no validation loss was logged (as val_loss or the like); overfitting cannot be judged"
        )
    answered = any("output_correlation" in measures for measures in numbers.layers.values())
    if "output_correlation" in chosen and not answered:
        reasons["output_correlation"] = unanswered
    return reasons


def _try(
    measure: Measure, subject: Subject, book: Book, numbers: Numbers, where: str = "", after: Book | None = None
) -> Tensor | None:
    """The measure of ``subject``; nothing, and a note of its first error, where it fails."""
    try:
        return _compute(measure, subject, book, after or {})
    except Exception as error:
        numbers.failed.setdefault(measure.name, f"the measure failed{where}: {error!r}")
        return None


def _compute(measure: Measure, subject: Subject, book: Book, after: Book) -> Tensor | None:
    arguments: dict[str, Any] = {}
    for name, signal, kind in measure.asks:
        source = after if signal.value != name else book
        statistic = next((s for s in source.get(signal, ()) if type(s) is kind), None)
        if statistic is None or (measure.subject != "run" and float(statistic.new_rows) == 0):
            return None
        arguments[name] = statistic
    if measure.wants_subject:
        arguments["subject"] = subject
    return measure.compute(**arguments).clone()


def _median_of_matrices(value: Tensor, parameters: Parameters) -> Tensor:
    matrices = [i for i, axes in enumerate(parameters.axes) if axes >= 2]
    return value[matrices].nanmedian() if matrices else value.new_tensor(float("nan"))
