"""The engine in plain torch: watches a model while it trains, window by window."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_neurohealth import ranks, restart
from lightning_neurohealth.answers import ALL_ALIKE, Answers, answers_in, samples_in
from lightning_neurohealth.black_box import BlackBox
from lightning_neurohealth.breakdown import Breakdown, first_to_go
from lightning_neurohealth.budget import Budget
from lightning_neurohealth.compiled import eager
from lightning_neurohealth.coverage import check_watchable
from lightning_neurohealth.diagnosis import Diagnosis
from lightning_neurohealth.finder import LayerFinder
from lightning_neurohealth.folding import thin, upright
from lightning_neurohealth.garbage import no_collection
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.ledger import Book, Ledger
from lightning_neurohealth.measuring import FLOWS, Numbers, measure_all, saw_nothing, unfed
from lightning_neurohealth.notes import coverage_of, note_of, silent_everywhere
from lightning_neurohealth.parameter_taps import ParameterTaps
from lightning_neurohealth.parameters import Parameters, Run
from lightning_neurohealth.patterns import Patterns
from lightning_neurohealth.progress import Progress
from lightning_neurohealth.renewal import Structure, look_again
from lightning_neurohealth.report import Report
from lightning_neurohealth.rules import Rule
from lightning_neurohealth.settings import Settings
from lightning_neurohealth.sharding import Part, repeats_rows
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics import Subject
from lightning_neurohealth.statistics.series import Series
from lightning_neurohealth.taps import Taps
from lightning_neurohealth.thinning import Thinner
from lightning_neurohealth.window import Window

FLOWING = {Signal.ACTIVATION_GRADIENT, Signal.ACTIVATION_TIMES_GRADIENT}
"""Signals that carry the loss scale."""
STILL = {
    *(Signal.PARAMETER_GRADIENT, Signal.GRADIENT_SAMPLE, Signal.UPDATE),
    *(Signal.WEIGHT, Signal.OUTGOING_WEIGHT, Signal.BIAS),
}
"""Signals whose numbers nobody changes until they are counted: ours, and the weights between two steps."""
OF_ROWS = FLOWING | {Signal.ACTIVATION, Signal.PREACTIVATION}
HALVES = (torch.float16, torch.bfloat16)
SOON = 1 << 16
"""Elements of rows that are copied to be summed later, together with others."""
PIECE = "the run broke off, and its neurons lie on several ranks"
HIDDEN = "the engine that updates the parameters keeps their gradients to itself"
APART = "it compares all neurons of a layer, and is not measured of layers whose neurons lie on several ranks"
NO_ROWS = "has seen no rows"
UNANSWERED = "no labels or predictions were found, or the model was right on every sample of the window, or on none"
ALONE = "the run broke off: what other ranks have seen since the last report is missing"


class Monitor:
    """Watches one model. In a hand-written loop, each training step runs inside it::

        monitor = Monitor(model, window=100)
        for x, y in data:
            optimizer.zero_grad()
            with monitor:
                loss = criterion(model(x), y)
                loss.backward()
                monitor.record_loss(loss)
            optimizer.step()
        print(monitor.close())

    Args:
        model: The model; hooks are put on its modules now, and taken off by :meth:`remove`.
        every_n_steps: Measure one training step in N.
        window: Close a window by itself every N training steps; ``"epoch"`` leaves it to :meth:`close`.
        include: Glob patterns over module names; only layers that match one (or whose ancestor does) are watched.
        exclude: Glob patterns of layers that are not.
        measures: ``"economy"``, ``"standard"``, ``"full"``, or a list of names of measures and sets.
        rules: Rule objects; ``None`` for all with their defaults.
        max_overhead: Share of the time that watching may take, e.g. 0.02: steps are timed, and fewer are measured than
            ``every_n_steps`` says where that is too slow, every other one at most. ``None`` for no limit.
        max_rows: Rows (batch × time × space) of one tensor that are measured at most, evenly spread; ``"auto"`` for all
            of up to 65,536 numbers, and of a larger tensor half as many numbers, 32 rows at least; ``None`` for all.
            Counts are exact for the rows that were measured.
        fused: Compile the sums over rows into one kernel for each kind of layer: ``True`` at once, ``False`` never,
            ``"auto"`` on devices where each sum is a launch of its own, once that has cost more than compiling does.

    Attributes:
        report: The last report, ``None`` before the first window has closed.
        reports: Every report so far. The first and the last 101 hold each neuron's numbers, or as many as half a
            gigabyte holds; those between, in single precision, the mean of each measure over a layer's neurons, and
            over the points of a series.

    Raises:
        ValueError: A setting is out of range, a pattern matches no module, or nothing of the model can be watched.
        TypeError: A setting is of the wrong kind.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every_n_steps: int = 10,
        window: int | Literal["epoch"] = 100,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        measures: str | Sequence[str] = "standard",
        rules: Sequence[Rule] | None = None,
        max_overhead: float | None = None,
        max_rows: int | Literal["auto"] | None = "auto",
        fused: bool | Literal["auto"] = "auto",
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model={model!r}: must be a torch.nn.Module")
        settings = Settings(every_n_steps, window, include, exclude, measures, rules, max_overhead, max_rows, fused)
        self._setup(model, settings, hook_root=True)

    @classmethod
    def of(cls, model: nn.Module, settings: Settings, hook_root: bool = True) -> Monitor:
        """A monitor from settings that were checked before; the root is no layer where wrappers call it for others."""
        monitor = cls.__new__(cls)
        monitor._setup(model, settings, hook_root)
        return monitor

    def _setup(self, model: nn.Module, settings: Settings, hook_root: bool) -> None:
        self.settings = settings
        self.reports: list[Report] = []
        self.thinner = Thinner()
        self.progress = Progress()
        self.budget = Budget(settings.max_overhead, settings.every_n_steps)
        self.run = Run(next((p.device for p in model.parameters()), torch.device("cpu")))
        self.begin_ledger()
        self.black_box = BlackBox(self.run.device)
        self.diagnosis = Diagnosis(settings.chosen_rules, settings.not_judged)
        self.failure: str | None = None
        self.renewals = 0
        self.left_out: dict[str, str] = {}
        self.gradient_scale: Tensor | float = 1.0
        self.steps = 0
        self.epoch_steps: int | None = None
        self.step_batches = 1
        self.initial = Numbers()
        self._index = 0
        self._window_start = 0
        self._measured = 0
        self._measuring = False
        self._overflow = False
        self._broke_off = False
        self._first_kept = False
        self._failed_measures: dict[str, str] = {}
        self._bad_loss = ""
        self.answers = Answers(self.take)
        self.watch(model, hook_root)

    def watch(self, model: nn.Module, hook_root: bool) -> None:
        """Find the layers and parameters of ``model`` as it is now, and put hooks on it."""
        self.parameters = Parameters(model)
        self.repeats = repeats_rows(model)
        self.finder = LayerFinder(model, Patterns(self.settings.include, self.settings.exclude))
        check_watchable(model, self.finder)
        self.taps = Taps(model, self.finder, self, hook_root)
        self.taps.failure = self._failed
        self.parameter_taps = ParameterTaps(self.parameters, self.run, self.finder, self, set(self.ledger.wanted))
        self.parameter_taps.weights.strangers = self._strangers
        if self.wants(Signal.RIGHT_ACTIVATION):
            self.taps.keep = self.answers.keep
        self._structure = Structure(model)
        self.taps.attach()

    @property
    def is_still(self) -> bool:
        """True while the model has the modules and parameters that are watched."""
        return self._structure.is_still

    def begin_ledger(self) -> None:
        """Forget all that was counted."""
        self.ledger = Ledger(self.settings.chosen_measures.values(), self.settings.fused)
        self.ledger.open(self.run, "run")

    @property
    def report(self) -> Report | None:
        """The last report."""
        return self.reports[-1] if self.reports else None

    @property
    def measuring(self) -> bool:
        """True during a measured step."""
        return self._measuring

    # A step

    def begin_step(self) -> None:
        """A training step begins; measured is one in ``every_n_steps``, the first among them."""
        self.budget.begin()
        if not self._measuring:
            self._measuring = self.steps % self.budget.every == 0
            if self._measuring:
                self._guarded(look_again, self)
            self._overflow = False
            phase = None if self.settings.max_rows is None else self.steps // self.budget.every
            self.taps.phase = phase
            self.parameter_taps.begin_step(self._measuring, phase)
        self.ledger.step = self.steps

    def begin_batch(self, batch: Any = None) -> None:
        """A forward and backward of this step begins; there are several where gradients are accumulated."""
        if self._measuring and self.failure is None:
            if self.taps.keep is not None:
                self.answers.begin(samples_in(batch))
            eager.enter(self)
            self.taps.arm()

    def end_batch(self) -> None:
        """It has ended."""
        self.taps.disarm()
        eager.leave(self)

    def end_step(self, stepped: bool = False) -> None:
        """The step is over; ``stepped`` if the optimizer has run already. Gradients are still there."""
        measuring, self._measuring = self._measuring, False
        if measuring:
            self._measured += 1  # on all ranks alike, also on one that fails
            self._guarded(self._take_step, stepped)
        self.ledger.advance()
        self.steps += 1
        self.budget.end(measuring)

    def _take_step(self, stepped: bool) -> None:
        self.parameter_taps.end_step(stepped, self._overflow, self._read_gradients)
        if self._overflow:
            self.ledger.discard(FLOWING | {Signal.WEIGHT_GRADIENT, Signal.NEURON_GRADIENT})
        self.black_box.take(self.ledger.pending, self.steps)
        self.ledger.fade()
        self.ledger.commit(later=True)
        if not self._first_kept:
            self.ledger.settle()
            self.ledger.keep_first()
            self._first_kept = True

    def _read_gradients(self, optimizer: Optimizer | None = None) -> None:
        if not self._first_kept:
            self.parameter_taps.weights_now()
        self.parameter_taps.before_update(optimizer)

    def record_loss(self, loss: Tensor | float) -> None:
        """The training loss of this step, a scalar; at every step, measured or not.

        What is not one number is not taken, and the coverage of the report says so.
        """
        try:
            value = loss if isinstance(loss, Tensor) else torch.as_tensor(loss, device=self.run.device)
        except (TypeError, ValueError, RuntimeError):
            self._bad_loss = f"a {type(loss).__name__}"
            return
        if value.numel() != 1 or value.is_complex():
            self._bad_loss = f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
            return
        self.ledger.record_later(self.run, Signal.LOSS, value.detach().clone())

    def record_answers(self, labels: Tensor, predictions: Tensor | None = None) -> None:
        """What the samples of this step are, and what the model says they are; for ``output_correlation``.

        Args:
            labels: One class a sample, ``[samples]``; what is negative is no label.
            predictions: Classes ``[samples]``, scores ``[samples, classes]``, or of two classes the probability of the
                second, ``[samples]``; ``None`` to take what the output layer gave.
        """
        if self._asks:
            self.answers.settle(labels, predictions)

    def record_step(self, outputs: Any, batch: Any) -> None:
        """What a step gave and what it got: the same, if labels can be found in either."""
        if self._asks:
            self.answers.settle(*answers_in(outputs, batch))

    @property
    def _asks(self) -> bool:
        return self._measuring and self.taps.keep is not None and self.failure is None

    def record_validation_loss(self, loss: Tensor | float) -> None:
        """The loss of one validation."""
        value = torch.as_tensor(loss, dtype=torch.float64, device=self.run.device).detach()
        self.ledger.record(self.run, Signal.VALIDATION_LOSS, value.reshape(1, 1, 1))
        self.ledger.advance(Signal.VALIDATION_LOSS)

    def before_update(self, optimizer: Optimizer | None = None) -> None:
        """Gradients are final and the optimizer has not run: of all parameters, or of one optimizer's."""
        if self._measuring:
            self._read_gradients(optimizer)

    def skip_gradients(self) -> None:
        """The optimizer will skip this step for overflow: its gradients are no gradients."""
        self._overflow = True

    def take(self, subject: Subject, signal: Signal, x: Tensor, part: Part | None = None) -> None:
        """Receives the taps; ``part`` says which neurons ``x`` has, where it has not all."""
        if signal is Signal.GLOBAL_GRADIENT:
            self.ledger.record_later(subject, signal, x)
            return
        if isinstance(subject, Layer) and signal in OF_ROWS:
            part = subject.part
            if part is None and self.repeats:
                return
        flows, whole = signal in FLOWS, x
        if flows and self.settings.max_rows is not None:
            most = None if self.settings.max_rows == "auto" else self.settings.max_rows
            x = thin(x, most, self.taps.phase or 0)
        if signal in FLOWING and not (isinstance(self.gradient_scale, float) and self.gradient_scale == 1.0):
            x = (x.float() if x.dtype in HALVES else x) * self.gradient_scale
        if part is not None:
            self.ledger.take(subject, signal, x, part)
        elif signal in STILL and x.numel() <= SOON:
            self.ledger.take_soon(subject, signal, x)
        elif flows and x.numel() <= SOON:
            self.ledger.take_soon(subject, signal, upright(x) if _may_share_memory(x, whole) else x)
        else:
            self.ledger.take(subject, signal, x)

    def wants(self, signal: Signal) -> bool:
        """False where no measure needs the signal."""
        return signal in self.ledger.wanted

    def __enter__(self) -> Monitor:
        self.begin_step()
        self.begin_batch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
            return
        self.end_batch()
        self.end_step()
        if self.settings.window != "epoch" and self.steps - self._window_start >= self.settings.window:
            self.close()

    def abandon(self) -> None:
        """The step has failed: forget what was seen of it, but for NaN and infinity, which may be why."""
        self.budget.forget()
        self.taps.disarm()
        eager.leave(self)
        measuring, self._measuring = self._measuring, False
        self._broke_off = True
        if measuring:
            self._guarded(self.black_box.take, self.ledger.pending, self.steps)
        if self.ledger.salvage() and measuring:
            self._measured += 1
            self.ledger.advance()
            self.steps += 1

    # A window

    def drop_window(self) -> bool:
        """Forget what was measured in it so far; true if anything was."""
        measured, self._measured = self._measured, 0
        return measured > 0

    @property
    def window_steps(self) -> int:
        """Training steps since the last report."""
        return self.steps - self._window_start

    def close(
        self,
        epoch: int = 0,
        step: int | None = None,
        *,
        learning_rate: float = float("nan"),
        last: bool = False,
        alone: bool = False,
    ) -> Report | None:
        """Close the window and report; all ranks must call it at the same step.

        Gives ``None`` if no step of the window was measured, and lets the window go on. With ``alone``, other ranks do
        not take part, because they may be gone; the coverage says that what they have seen is missing.
        """
        if not self._measured:
            return None
        with self.budget.closing(self.window_steps), no_collection():
            return self._close(epoch, step, learning_rate, last, alone)

    def _close(self, epoch: int, step: int | None, learning_rate: float, last: bool, alone: bool) -> Report:
        self._guarded(self._read_parameters, alone)
        self.ledger.open(self.parameters, "parameters")  # on a rank that failed early too
        every, note = self.budget.every, note_of(self.finder, self.taps.called, self.failure)
        twins, initial = self.ledger.merged(note, self.budget.sums(), alone)
        self.budget.adapt(self.ledger.sums)
        window = Window(
            index=self._index,
            epoch=epoch,
            step=self.steps if step is None else step,
            steps=self.window_steps,
            measured=self._measured,
            seen=self.steps,
            trained=self.steps / self.epoch_steps if self.epoch_steps else float("inf"),
            epochs=self._measured / self.epoch_steps if self.epoch_steps else 0.0,
            batches=self.step_batches,
            learning_rate=learning_rate,
            progress=self.progress,
            last=last,
        )
        known = sorted((s for s in twins if isinstance(s, Layer)), key=lambda layer: layer.order)
        without_rows = {layer.name: NO_ROWS for layer in known if saw_nothing(twins[layer])}
        if alone and ranks.world_size() > 1:
            without_rows |= {layer.name: PIECE for layer in self.finder.ordered() if layer.part is not None}
        layers = {layer.name: layer for layer in known if layer.name not in without_rows}
        numbers = self._measure(twins, layers)
        window = replace(window, breakdown=self._breakdown(numbers, known, alone))
        if "train_loss" in numbers.run:
            self.progress.add(numbers.run["train_loss"].tolist(), self._window_start, self._stride())
        if initial is not None:
            self.initial = self._measure(initial, layers)
        silent = silent_everywhere(self.ledger.notes, known)
        missing = {**self._failed_measures, **self._not_compared(), **self.left_out}
        self.left_out = {}
        read = any("gradient_norm" in measures for measures in numbers.parameters.values())
        if self.parameters.gradients_are_hidden and not read:
            missing["gradient_norm"] = HIDDEN
        if alone and ranks.world_size() > 1:
            missing["*"] = ALONE
        findings, recovered = self.diagnosis.judge(window, numbers, self.initial, layers, self.parameters, silent)
        report = Report.from_window(
            window,
            numbers,
            layers,
            self.diagnosis.lives,
            findings=findings,
            recovered=recovered,
            coverage=coverage_of(
                known,
                self.ledger.notes,
                self.parameters,
                {**without_rows, **missing},
                unfed(numbers, self.settings.chosen_measures, self._bad_loss, self._unanswered),
            ),
            not_judged=dict(self.diagnosis.not_judged),
            every_n_steps=every,
            overhead=self.budget.share,
            previous=self.report,
        )
        self.ledger.reset()
        self._window_start, self._measured = self.steps, 0
        self._index += 1
        self.reports.append(report)
        self.thinner.thin(self.reports)
        return report

    def state_dict(self, alone: bool = False, ended: bool = False) -> dict[str, Any]:
        """All that later reports depend on, in tensors and plain containers, between two steps.

        With several ranks every one must call it at the same step: sums are merged, and only one takes them up again.

        Args:
            alone: True if other ranks do not take part, because they may be gone; what they have seen is missing.
            ended: True if a window has just closed and nothing came since; then nobody waits for others.
        """
        if not self._measuring:
            self._guarded(self._settle, alone)
        note = note_of(self.finder, self.taps.called, self.failure)
        if ended and not alone and ranks.world_size() > 1:
            return restart.state_of(self, self.ledger.at_start())
        return restart.state_of(self, self.ledger.together(note, alone))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, before the first step. What does not fit the model or the settings is named in a warning.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, ImportError: It is no state that this version has written.
        """
        restart.restore(self, state)

    def _settle(self, alone: bool) -> None:
        if alone:
            self.parameter_taps.forget_update()
        self.parameter_taps.after_update()
        self.ledger.commit()

    def remove(self) -> None:
        """Take all hooks off; may be called more than once."""
        self.taps.remove()
        eager.leave(self)

    # How

    def _breakdown(self, numbers: Numbers, layers: Sequence[Layer], alone: bool) -> Breakdown | None:
        alone = alone or ranks.world_size() == 1
        broke_off, self._broke_off = self._broke_off and alone, False
        if not (broke_off or numbers.any_non_finite):
            self.black_box.reopen()
            return None
        record = self.black_box.read()
        self.black_box.clear()
        return first_to_go([record] if alone else ranks.gather_objects(record), [layer.name for layer in layers])

    def _read_parameters(self, alone: bool) -> None:
        self.ledger.clear_snapshots()
        self.parameter_taps.at_close(alone)
        self.ledger.commit()

    def _measure(self, books: Mapping[Subject, Book], layers: dict[str, Layer]) -> Numbers:
        known = {name: layer for name, layer in layers.items() if layer in books}
        numbers = measure_all(self.settings.chosen_measures.values(), books, known, self.parameters, self.run)
        self._failed_measures.update(numbers.failed)
        return numbers

    def _not_compared(self) -> dict[str, str]:
        measures = self.settings.chosen_measures.items()
        return {name: APART for name, measure in measures if self.ledger.apart & set(measure.needs.values())}

    @property
    def _unanswered(self) -> str:
        # what this rank knows another may not, and reports are the same on all
        return (self.answers.reason or ALL_ALIKE) if ranks.world_size() == 1 else UNANSWERED

    def _strangers(self) -> list[Layer]:
        return self.ledger.strangers()

    def _stride(self) -> int:
        losses = (s for s in self.ledger.books[self.run].get(Signal.LOSS, ()) if isinstance(s, Series))
        return next((series.stride for series in losses), 1)

    def _guarded(self, call: Callable[..., None], *args: Any) -> None:
        # what follows is what other ranks wait for
        try:
            call(*args)
        except Exception as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Switch off, with one warning, after a fault of ours."""
        self.taps.remove()
        eager.leave(self)
        self._failed(error)

    def _failed(self, error: BaseException) -> None:
        # windows still close: other ranks would wait for this one
        if self.failure is None:
            self.failure = "".join(traceback.format_exception(error))
            self.ledger.discard()
            warnings.warn(
                "NeuronHealth has failed and watches no layers for the rest of this run; training goes on. "
                f"{self.failure}",
                RuntimeWarning,
                stacklevel=2,
            )


def _may_share_memory(x: Tensor, y: Tensor) -> bool:
    if type(x) is not Tensor:  # e.g. the result of a collective that is still on its way
        return True
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
