"""The engine in plain torch: watches a model while it trains, window by window."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_neurohealth import ranks, restart
from lightning_neurohealth.answers import Answers, answers_in, samples_in
from lightning_neurohealth.black_box import IN_C, BlackBox
from lightning_neurohealth.budget import Budget
from lightning_neurohealth.closing import close_window
from lightning_neurohealth.compiled import eager
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.coverage import check_device, check_watchable
from lightning_neurohealth.diagnosis import Diagnosis
from lightning_neurohealth.garbage import no_collection
from lightning_neurohealth.intake import FLOWING, Intake
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measuring import Numbers
from lightning_neurohealth.notes import note_of
from lightning_neurohealth.parameter_taps import ParameterTaps
from lightning_neurohealth.parameters import Parameters, Run
from lightning_neurohealth.patterns import Patterns
from lightning_neurohealth.progress import Progress
from lightning_neurohealth.renewal import Structure, look_again
from lightning_neurohealth.report import Report
from lightning_neurohealth.reporting.thinning import Thinner
from lightning_neurohealth.rules import Rule
from lightning_neurohealth.settings import Settings
from lightning_neurohealth.sharding import repeats_rows
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.taps import Taps
from lightning_neurohealth.tracing.finder import LayerFinder


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
        model: The model; hooks are on its modules during measured steps, until :meth:`remove`.
        every_n_steps: Measure one training step in N.
        window: Close a window by itself every N training steps; ``"epoch"`` leaves it to :meth:`close`.
        include: Glob patterns over module names; only layers that match one (or whose ancestor does) are watched.
        exclude: Glob patterns of layers that are not.
        measures: ``"economy"``, ``"standard"``, ``"full"``, or a list of names of measures and sets.
        rules: Rule objects; ``None`` for all with their defaults.
        max_overhead: Share of the time that watching may take, e.g. 0.02: steps are timed, and fewer are measured than
            ``every_n_steps`` says where that is too slow, every other one at most. ``None`` for no limit.
        max_rows: Rows (batch × time × space) of one tensor that are measured at most, evenly spread; ``"auto"`` for all
            of up to 65,536 numbers, and of a larger tensor 16,383 numbers in 31 to 255 rows; ``None`` for all.
            Counts are exact for the rows that were measured.
        fused: Take all sums over rows in one pass: on the CPU by a library in C, which is compiled once on each
            machine in some three seconds and kept in the user's cache; elsewhere by ``torch.compile``, ``True`` at
            once, ``"auto"`` once single sums have cost more than compiling does. Where no compiler is, and with
            ``False``, sums are taken one by one.
        saturation_cutoff: From where on ``saturation_rate`` counts an activation as stuck at an end of its range:
            |a| of tanh, a or 1 − a of sigmoid; between 0.5 and 1, e.g. 0.9. Rules go by 0.99 all the same.

    Attributes:
        report: The last report, ``None`` before the first window has closed.
        measuring: True during a measured step.
        reports: Every report so far. The first and the last 101 hold each neuron's numbers, or as many as half a
            gigabyte holds; those between, in single precision, the mean of each measure over a layer's neurons, and
            over the points of a series.

    Raises:
        ValueError: A setting is out of range, a pattern matches no module, nothing of the model can be watched, or its
            device has no double precision (Apple's MPS).
        TypeError: A setting is of the wrong kind.
    """

    ledger: Ledger
    intake_type = Intake

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
        saturation_cutoff: float = 0.99,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model={model!r}: must be a torch.nn.Module")
        settings = Settings(
            every_n_steps,
            window,
            include,
            exclude,
            measures,
            rules,
            max_overhead,
            max_rows,
            fused,
            saturation_cutoff,
        )
        self._setup(model, settings, hook_root=True)

    @classmethod
    def of(
        cls, model: nn.Module, settings: Settings, hook_root: bool = True, wrapper: nn.Module | None = None
    ) -> Monitor:
        """A monitor from settings that were checked before; the root is no layer where wrappers call it for others."""
        monitor = cls.__new__(cls)
        monitor._setup(model, settings, hook_root, wrapper)
        return monitor

    def _setup(self, model: nn.Module, settings: Settings, hook_root: bool, wrapper: nn.Module | None = None) -> None:
        check_device(model)
        self.settings, self.wrapper = settings, wrapper
        self.reports: list[Report] = []
        self.thinner = Thinner()
        self.progress = Progress()
        self.budget = Budget(settings.max_overhead, settings.every_n_steps)
        self.run = Run(next((p.device for p in model.parameters()), torch.device("cpu")))
        self.intake = self.intake_type(self.settings.max_rows)
        self.begin_ledger()
        self.black_box = BlackBox(self.run.device)
        self.diagnosis = Diagnosis(settings.chosen_rules, settings.not_judged)
        self.failure: str | None = None
        self.renewals = self.renewed_at = 0
        self.left_out: dict[str, str] = {}
        self.steps = 0
        self.epoch_steps: int | None = None
        self.step_batches = 1
        self.initial = Numbers()
        self.index = 0
        self._window_start = 0
        self.measured = 0
        self.measuring = False
        self._overflow = False
        self.broke_off = False
        self._first_kept = False
        self.failed_measures: dict[str, str] = {}
        self.bad_loss = ""
        self.answers = Answers(self.intake)
        self.watch(model, hook_root)

    def watch(self, model: nn.Module, hook_root: bool) -> None:
        """Find the layers and parameters of ``model`` as it is now, and put hooks on it."""
        self.parameters = Parameters(model, wrapper=self.wrapper, in_c=self.settings.fused is not False)
        self.intake.repeats = repeats_rows(model)
        self.finder = LayerFinder(model, Patterns(self.settings.include, self.settings.exclude))
        check_watchable(model, self.finder)
        self.taps = Taps(model, self.finder, self.intake, hook_root)
        self.taps.failure = self._failed
        self.parameter_taps = ParameterTaps(
            self.parameters, self.run, self.finder, self.intake, set(self.ledger.wanted)
        )
        self.parameter_taps.weights.strangers = self._strangers
        if self.intake.wants(Signal.RIGHT_ACTIVATION):
            self.taps.keep = self.answers.keep
        self._structure = Structure(model)
        self.taps.attach()

    @property
    def is_still(self) -> bool:
        """True while the model has the modules and parameters that are watched."""
        return self._structure.is_still

    def begin_ledger(self) -> None:
        """Forget all that was counted."""
        if hasattr(self, "ledger"):
            self.ledger.native.close()
        measures = [*self.settings.chosen_measures.values(), *self.settings.shown_measures.values()]
        self.ledger = self.intake.ledger = Ledger(measures, self.settings.fused, IN_C)
        self.ledger.open(self.run, "run")

    @property
    def report(self) -> Report | None:
        """The last report."""
        return self.reports[-1] if self.reports else None

    # A step

    def begin_step(self) -> None:
        """A training step begins; measured is one in ``every_n_steps``, the first among them."""
        budget, steps = self.budget, self.steps
        if budget.limit is not None:
            budget.begin()
        if not self.measuring:  # or a batch before was of the same step
            self.measuring = steps % budget.every == 0
            if self.measuring:
                self._begin_measuring()
            else:
                self.parameter_taps.pass_over()
            self.ledger.step = steps

    def _begin_measuring(self) -> None:
        self._overflow = False
        self.guarded(look_again, self)
        self.intake.phase = self.steps // self.budget.every
        self.taps.phase = None if self.settings.max_rows is None else self.intake.phase
        self.parameter_taps.begin_step(self.taps.phase)

    def begin_batch(self, batch: Any = None) -> None:
        """A forward and backward of this step begins; there are several where gradients are accumulated."""
        if self.measuring and self.failure is None:
            if self.taps.keep is not None:
                self.answers.begin(samples_in(batch))
            eager.enter(self)
            self.taps.arm()

    def end_batch(self) -> None:
        """It has ended."""
        if self.measuring:
            self.taps.disarm()
            eager.leave(self)

    def end_step(self, stepped: bool = False) -> None:
        """The step is over; ``stepped`` if the optimizer has run already. Gradients are still there."""
        measuring, self.measuring = self.measuring, False
        if measuring:
            self.measured += 1  # on all ranks alike, also on one that fails
            self.guarded(self._take_step, stepped)
        self.ledger.advance()
        self.steps += 1
        if self.budget.limit is not None:
            self.budget.end(measuring)

    def _take_step(self, stepped: bool) -> None:
        self.parameter_taps.end_step(stepped, self._overflow, self._read_gradients)
        if self._overflow:
            self.ledger.discard(FLOWING | {Signal.WEIGHT_GRADIENT, Signal.NEURON_GRADIENT})
        self.black_box.take(self.ledger.pending, self.steps, self.ledger.sizes)
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
            self.bad_loss = f"a {type(loss).__name__}"
            return
        if value.numel() != 1 or value.is_complex():
            self.bad_loss = f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
            return
        self.ledger.record_later(self.run, Signal.LOSS, value)

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
        return self.measuring and self.taps.keep is not None and self.failure is None

    def record_validation_loss(self, loss: Tensor | float) -> None:
        """The loss of one validation."""
        value = torch.as_tensor(loss, dtype=torch.float64, device=self.run.device).detach()
        self.ledger.record(self.run, Signal.VALIDATION_LOSS, value.reshape(1, 1, 1))
        self.ledger.advance(Signal.VALIDATION_LOSS)

    def before_update(self, optimizer: Optimizer | None = None) -> None:
        """Gradients are final and the optimizer has not run: of all parameters, or of one optimizer's."""
        if self.measuring:
            self._read_gradients(optimizer)

    def skip_gradients(self) -> None:
        """The optimizer will skip this step for overflow: its gradients are no gradients."""
        self._overflow = True

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
        measuring, self.measuring = self.measuring, False
        self.broke_off = True
        if measuring:
            self.guarded(self.black_box.take, self.ledger.pending, self.steps, self.ledger.sizes)
        if self.ledger.salvage() and measuring:
            self.measured += 1
            self.ledger.advance()
            self.steps += 1

    # A window

    def begin_window(self, report: Report) -> None:
        """One has been closed by ``report``."""
        self.reports.append(report)
        self.thinner.thin(self.reports)
        self._window_start, self.measured = self.steps, 0
        self.index += 1
        self.broke_off, self.left_out = False, {}

    def drop_window(self) -> bool:
        """Forget what was measured in it so far; true if anything was."""
        measured, self.measured = self.measured, 0
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
        if not self.measured:
            return None
        with self.budget.closing(self.window_steps), no_collection():
            return close_window(self, epoch, step, learning_rate, last, alone)

    def state_dict(self, alone: bool = False, ended: bool = False) -> dict[str, Any]:
        """All that later reports depend on, in tensors and plain containers, between two steps.

        With several ranks every one must call it at the same step: sums are merged, and only one takes them up again.

        Args:
            alone: True if other ranks do not take part, because they may be gone; what they have seen is missing.
            ended: True if a window has just closed and nothing came since; then nobody waits for others.
        """
        if not self.measuring:
            self.guarded(self._settle, alone)
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

    def _strangers(self) -> list[Layer]:
        return self.ledger.strangers()

    def guarded(self, call: Callable[..., None], *args: Any) -> None:
        """Call it; what follows is what other ranks wait for."""
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
