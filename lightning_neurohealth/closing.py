"""The end of a window: what all ranks have counted becomes measures, findings and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_neurohealth import ranks
from lightning_neurohealth.answers import ALL_ALIKE
from lightning_neurohealth.breakdown import Breakdown, first_to_go
from lightning_neurohealth.counting.shelf import Book
from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.measuring import Numbers, measure_all, saw_nothing, unfed
from lightning_neurohealth.notes import coverage_of, note_of, silent_everywhere, unseen_by
from lightning_neurohealth.report import Report
from lightning_neurohealth.signals import OF_ELEMENTS, OF_WEIGHTS, Signal
from lightning_neurohealth.statistics.series import Series
from lightning_neurohealth.window import Window

if TYPE_CHECKING:
    from lightning_neurohealth.monitor import Monitor

PIECE = "the run broke off, and its neurons lie on several ranks"
HIDDEN = "the engine that updates the parameters keeps their gradients to itself"
APART = "it compares all neurons of a layer, and is not measured of layers whose neurons lie on several ranks"
FLAT = "FSDP1 leaves flat slices of the weights on each rank; with FSDP2 it would be measured"
NO_ROWS = "has seen no rows"
UNANSWERED = "no labels or predictions were found, or the model was right on every sample of the window, or on none"
ALONE = "the run broke off: what other ranks have seen since the last report is missing"


def close_window(
    monitor: Monitor, epoch: int, step: int | None, learning_rate: float, last: bool, alone: bool
) -> Report:
    """Report, and begin a new window; all ranks call it at the same step, but one that is ``alone``."""
    ledger, parameters = monitor.ledger, monitor.parameters
    monitor.guarded(_read_parameters, monitor, alone)
    ledger.open(parameters, "parameters")  # on a rank that failed early too
    every, note = monitor.budget.every, note_of(monitor.finder, monitor.taps.called, monitor.failure)
    twins, initial = ledger.merged(note, monitor.budget.sums(), alone)
    monitor.budget.adapt(ledger.sums)
    known = sorted((s for s in twins if isinstance(s, Layer)), key=lambda layer: layer.order)
    others_missing = alone and ranks.world_size() > 1
    said = unseen_by(ledger.notes)
    unseen = {layer.name: said.get(layer.name, NO_ROWS) for layer in known if saw_nothing(twins[layer])}
    if others_missing:
        unseen |= {layer.name: PIECE for layer in monitor.finder.ordered() if layer.part is not None}
    layers = {layer.name: layer for layer in known if layer.name not in unseen}
    numbers = _measured(monitor, twins, layers)
    window = _window(monitor, epoch, step, learning_rate, last)
    window = replace(window, breakdown=_breakdown(monitor, numbers, known, alone))
    if "train_loss" in numbers.run:
        monitor.progress.add(numbers.run["train_loss"].tolist(), monitor.steps - monitor.window_steps, _stride(monitor))
    if initial is not None:
        monitor.initial = _measured(monitor, initial, layers)
    silent = silent_everywhere(ledger.notes, known)
    findings, recovered = monitor.diagnosis.judge(window, numbers, monitor.initial, layers, parameters, silent)
    report = Report.from_window(
        window,
        _shown(monitor, numbers, twins, layers),
        layers,
        monitor.diagnosis.lives,
        findings=findings,
        recovered=recovered,
        coverage=coverage_of(
            known,
            ledger.notes,
            parameters,
            {**unseen, **_missing(monitor, numbers, others_missing)},
            unfed(numbers, monitor.settings.chosen_measures, monitor.bad_loss, _unanswered(monitor)),
        ),
        not_judged=dict(monitor.diagnosis.not_judged),
        every_n_steps=every,
        saturation_cutoff=monitor.settings.saturation_cutoff,
        overhead=monitor.budget.share,
        previous=monitor.report,
    )
    ledger.reset()
    monitor.begin_window(report)
    return report


def _read_parameters(monitor: Monitor, alone: bool) -> None:
    monitor.ledger.clear_snapshots()
    monitor.parameter_taps.at_close(alone)
    monitor.ledger.commit()


def _window(monitor: Monitor, epoch: int, step: int | None, learning_rate: float, last: bool) -> Window:
    length = monitor.epoch_steps
    return Window(
        index=monitor.index,
        epoch=epoch,
        step=monitor.steps if step is None else step,
        steps=monitor.window_steps,
        measured=monitor.measured,
        seen=monitor.steps,
        trained=monitor.steps / length if length else float("inf"),
        epochs=monitor.measured / length if length else 0.0,
        batches=monitor.step_batches,
        learning_rate=learning_rate,
        progress=monitor.progress,
        last=last,
    )


def _measured(
    monitor: Monitor,
    books: Mapping[Subject, Book],
    layers: dict[str, Layer],
    measures: Mapping[str, Measure] | None = None,
) -> Numbers:
    known = {name: layer for name, layer in layers.items() if layer in books}
    measures = monitor.settings.chosen_measures if measures is None else measures
    numbers = measure_all(measures.values(), books, known, monitor.parameters, monitor.run)
    monitor.failed_measures.update(numbers.failed)
    return numbers


def _shown(monitor: Monitor, numbers: Numbers, books: Mapping[Subject, Book], layers: dict[str, Layer]) -> Numbers:
    """What a report shows: the numbers that rules have read, but for measures that the user has set otherwise."""
    measures = monitor.settings.shown_measures
    if not measures:
        return numbers
    others = _measured(monitor, books, layers, measures).layers
    shown: dict[str, dict[str, Tensor]] = {}
    for name, of_one in numbers.layers.items():
        own = {**of_one, **dict.fromkeys(measures), **others.get(name, {})}
        shown[name] = {measure: value for measure, value in own.items() if value is not None}
    return replace(numbers, layers=shown)


def _breakdown(monitor: Monitor, numbers: Numbers, layers: Sequence[Layer], alone: bool) -> Breakdown | None:
    alone = alone or ranks.world_size() == 1
    if not ((monitor.broke_off and alone) or numbers.any_non_finite):
        monitor.black_box.reopen()
        return None
    record = monitor.black_box.read()
    monitor.black_box.clear()
    return first_to_go([record] if alone else ranks.gather_objects(record), [layer.name for layer in layers])


def _missing(monitor: Monitor, numbers: Numbers, others_missing: bool) -> dict[str, str]:
    """Measures, or all ("*"), that lack something, each with the reason."""
    measures = monitor.settings.chosen_measures.items()
    apart = {name: APART for name, measure in measures if monitor.ledger.apart & set(measure.needs.values())}
    flat = OF_WEIGHTS if monitor.parameters.slices else set()
    flattened = {name: FLAT for name, measure in measures if flat & measure.needs.keys()}
    missing = {**monitor.failed_measures, **apart, **flattened, **monitor.left_out}
    read = any("gradient_norm" in of_one for of_one in numbers.parameters.values())
    if monitor.parameters.gradients_are_hidden and not read:
        of_gradients = {Signal.PARAMETER_GRADIENT, *OF_ELEMENTS}
        missing |= {name: HIDDEN for name, measure in measures if of_gradients & measure.needs.keys()}
    if others_missing:
        missing["*"] = ALONE
    return missing


def _unanswered(monitor: Monitor) -> str:
    # what this rank knows another may not, and reports are the same on all
    return (monitor.answers.reason or ALL_ALIKE) if ranks.world_size() == 1 else UNANSWERED


def _stride(monitor: Monitor) -> int:
    losses = (s for s in monitor.ledger.books[monitor.run].get(Signal.LOSS, ()) if isinstance(s, Series))
    return next((series.stride for series in losses), 1)
