"""NeuronHealth: tells a monitor what a Lightning Trainer does."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from tqdm.auto import tqdm

from lightning_neurohealth.findings import CriticalFindingError, Severity
from lightning_neurohealth.hosts import Callback, is_tqdm
from lightning_neurohealth.interventions import Fitness, Preflight, check_initialization, fitness
from lightning_neurohealth.monitor import Monitor
from lightning_neurohealth.report import Report
from lightning_neurohealth.rules import Rule
from lightning_neurohealth.settings import Settings, one_of
from lightning_neurohealth.sinks import Place, Sink, default_sinks

VALIDATION_LOSS = re.compile(
    r"(?:val|valid|validation)[_/.-]?(?:epoch[_/.-]?)?loss(?:_epoch)?(?:/dataloader_idx_0)?", re.IGNORECASE
)
"""Names under which people log the loss of their validation."""

CHECKPOINT_KEY = "neurohealth"
"""Where a checkpoint keeps our states, one for each callback of ours in the Trainer: two may have equal settings."""

Event = TypeVar("Event", bound=Callable[..., None])


def guarded(event: Event) -> Event:
    """Nothing of ours ends a run in the middle: a fault switches the monitor off, with one warning."""

    @wraps(event)
    def call(self: NeuronHealth, *args: Any, **kwargs: Any) -> None:
        try:
            event(self, *args, **kwargs)
        except CriticalFindingError:
            raise
        except Exception as error:
            if self._monitor is not None:
                self._monitor.fail(error)

    return cast("Event", call)


class NeuronHealth(Callback):
    """Finds sick neurons while a model trains: ``Trainer(callbacks=[NeuronHealth()])``.

    Args:
        every_n_steps: Measure one training step in N; the others cost an idle hook.
        window: When to report: ``"epoch"``, or every N optimizer steps.
        include: Glob patterns over module names; only layers that match one (or whose ancestor does) are watched.
        exclude: Glob patterns of layers that are not watched.
        measures: ``"economy"``, ``"standard"`` or ``"full"``, or a list of names of measures and sets.
        rules: Rule objects, e.g. ``[DeadNeurons(serious=0.3)]``; ``None`` for all with their defaults.
        log: What loggers get: ``"summary"`` (about ten scalars a window), ``"layers"`` (each layer's measures too), or
            ``"none"``.
        sinks: Where reports go; ``None`` for the console, every logger of the Trainer and files, ``[]`` for nowhere.
        on_critical: What to do when a CRITICAL finding appears: ``"warn"`` (report it), ``"stop"`` (end the training
            after this batch, as EarlyStopping does) or ``"raise"`` (CriticalFindingError).
        max_overhead: Share of the time that watching may take, e.g. 0.02: steps are timed, and fewer are measured than
            ``every_n_steps`` says where that is too slow, every other one at most. ``None`` for no limit.
        max_rows: Rows (batch × time × space) of one tensor that are measured at most, evenly spread; ``"auto"`` for all
            of what half a megabyte holds, and of a larger tensor as many, never fewer than 128; ``None`` for all.
            Counts are exact for the rows that were measured.
        fused: Compile the sums over rows into one kernel for each kind of layer: ``True`` at once, ``False`` never,
            ``"auto"`` on devices where each sum is a launch of its own, once that has cost more than compiling does.
        preflight: Look at the model once more before its first update, by an extra ``training_step`` of the first
            batch, and say whether it is fit to be trained.

    Attributes:
        birth: What the preflight has shown, ``None`` before it.
        report: The last report, ``None`` before the first window has closed.
        reports: Every report so far. The first and the last 101 hold each neuron's numbers, those between, in single
            precision, the mean of each measure over a layer's neurons, and over the points of a series.

    Raises:
        ValueError, TypeError: A setting is out of range or of the wrong kind; at ``on_fit_start``, a pattern matches no
            module, or nothing of the model can be watched.
    """

    def __init__(
        self,
        every_n_steps: int = 10,
        window: int | Literal["epoch"] = "epoch",
        include: list[str] | None = None,
        exclude: list[str] | None = None,
        measures: str | list[str] = "standard",
        rules: list[Rule] | None = None,
        log: Literal["summary", "layers", "none"] = "summary",
        sinks: list[Sink] | None = None,
        on_critical: Literal["warn", "stop", "raise"] = "warn",
        max_overhead: float | None = None,
        max_rows: int | Literal["auto"] | None = "auto",
        fused: bool | Literal["auto"] = "auto",
        preflight: bool = False,
    ) -> None:
        super().__init__()
        self.settings = Settings(
            every_n_steps, window, include, exclude, measures, rules, max_overhead, max_rows, fused
        )
        one_of("log", log, ("summary", "layers", "none"))
        one_of("on_critical", on_critical, ("warn", "stop", "raise"))
        if not isinstance(preflight, bool):
            raise TypeError(f"preflight={preflight!r}: must be true or false")
        for sink in sinks or ():
            if not isinstance(sink, Sink):
                raise TypeError(f"sinks: {sink!r} is not a Sink; pass objects, e.g. [Console()]")
        self.log_level = log  # Lightning puts a method called log on every callback
        self.sinks = default_sinks() if sinks is None else list(sinks)
        self.on_critical = on_critical
        self.preflight, self.birth = preflight, cast("Preflight | None", None)
        self.reports: list[Report] = []
        self._monitor: Monitor | None = None
        self._open_sinks: list[Sink] = []
        self._global_step = self._epoch = 0
        self._backward_seen = self._looks = False
        self._backwards, self._stepped = 0, set[int]()
        self._state: dict[str, Any] | None = None
        self._loaded: dict[str, Any] | None = None

    @property
    def report(self) -> Report | None:
        """The last report, ``None`` before the first window has closed."""
        return self.reports[-1] if self.reports else None

    def fitness(self, score: str = "taylor", **weights: float) -> Fitness:
        """Fitness of every neuron from the last report; see :func:`lightning_neurohealth.interventions.fitness`."""
        return fitness(self.report, score, **weights)

    # The run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._loaded = None  # what another run has loaded
        if stage == "fit":
            self._state = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(None)
        # under DDP the wrapper calls the root for training_step, with the batch
        monitor = Monitor.of(pl_module, self.settings, hook_root=False)
        monitor.parameters.know_optimizers(trainer.optimizers)
        self._monitor, self.reports = monitor, monitor.reports
        self._backward_seen = False
        monitor.taps.backward = not pl_module.automatic_optimization
        self._resume()
        self.birth, self._looks = None, self.preflight and monitor.steps == 0
        self._open(trainer)

    @guarded
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._global_step = trainer.global_step
        length = trainer.num_training_batches
        if self._monitor is not None and math.isfinite(length) and length:
            self._monitor.step_batches = trainer.accumulate_grad_batches
            self._monitor.epoch_steps = max(1, math.ceil(length / trainer.accumulate_grad_batches))

    @guarded
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._monitor is not None:
            if self._looks:
                self._looks = False
                self._look_before(trainer, pl_module, batch)
            self._backwards, self._stepped = 0, set()
            self._monitor.begin_step()
            self._monitor.begin_batch(batch)

    @guarded
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        monitor = self._monitor
        if monitor is None:
            return
        self._backward_seen = True
        self._backwards += 1
        monitor.taps.follow(functions=False)
        monitor.taps.backward = True
        if monitor.measuring:
            monitor.gradient_scale = _gradient_scale(trainer)
        if not pl_module.automatic_optimization:
            monitor.record_loss(loss.detach() / _loss_scale(trainer))

    @guarded
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._monitor is not None:
            self._monitor.taps.backward = False
            self._monitor.taps.new_forward()
            if not pl_module.automatic_optimization:
                self._monitor.taps.follow(functions=True)

    @guarded
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._stepped.add(id(optimizer))
        if self._monitor is not None and self._monitor.measuring:
            if _may_overflow(trainer) and not self._monitor.parameters.gradients_are_finite():
                self._monitor.skip_gradients()
            several = len(trainer.optimizers) > 1
            fused = getattr(optimizer, "_step_supports_amp_scaling", False)  # it takes the loss scale off by itself
            self._monitor.parameter_taps.scale = _loss_scale(trainer) if fused else 1.0
            self._monitor.before_update(optimizer if several else None)

    @guarded
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        monitor = self._monitor
        if monitor is None:
            return
        monitor.record_step(outputs, batch)
        monitor.end_batch()
        if self._stepped and (self._backwards > 1 or len(self._stepped) < len(trainer.optimizers)):
            # several losses, each with an optimizer of its own; two optimizers may also share one loss
            monitor.progress.adversarial |= len(trainer.optimizers) > 1
        automatic = pl_module.automatic_optimization
        if automatic and isinstance(outputs, dict) and isinstance(outputs.get("loss"), Tensor):
            batches = trainer.accumulate_grad_batches
            monitor.record_loss(outputs["loss"] if batches == 1 else outputs["loss"] * batches)
        if automatic and trainer.global_step == self._global_step:
            return  # gradients are still being accumulated
        self._global_step, self._epoch = trainer.global_step, trainer.current_epoch
        monitor.end_step(stepped=True)
        if not automatic and not self._backward_seen:
            monitor.taps.backward = True
        window = self.settings.window
        if window != "epoch" and monitor.window_steps >= window:
            last = trainer.is_last_batch and _is_last_epoch(trainer)
            self._close(trainer, trainer.fit_loop.epoch_loop._batches_that_stepped, last or _steps_are_over(trainer))

    @guarded
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._monitor is not None and not trainer.sanity_checking:
            losses = [value for name, value in trainer.callback_metrics.items() if VALIDATION_LOSS.fullmatch(name)]
            if losses:
                self._monitor.record_validation_loss(losses[0])

    @guarded
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.settings.window == "epoch":
            # Lightning logs what it reduces over the epoch at the step that has just ended
            step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
            self._close(trainer, step, last=_is_last_epoch(trainer) or _steps_are_over(trainer))

    @guarded
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._monitor is not None:
            if self._monitor.window_steps:
                self._close(trainer, trainer.fit_loop.epoch_loop._batches_that_stepped - 1, last=True)
            self._state = self._monitor.state_dict(ended=True)
            self._finish(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._monitor is not None:
            self._monitor.abandon()
            step = trainer.fit_loop.epoch_loop._batches_that_stepped
            self._quietly(self._close, trainer, step, True, False, True)
            self._quietly(self._keep_state)
            self._finish(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._finish(trainer)

    # Checkpoints

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state of the middle of the window; all ranks must save at the same step, as Lightning asks anyway."""
        state = self._state
        if self._monitor is not None:
            try:
                state = self._monitor.state_dict(alone=trainer.interrupted)
            except Exception as error:
                warnings.warn(f"NeuronHealth is not in this checkpoint: {error!r}", RuntimeWarning, stacklevel=2)
        if state is not None:
            checkpoint.setdefault(CHECKPOINT_KEY, {})[self._place(trainer)] = state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint.get(CHECKPOINT_KEY, {}).get(self._place(trainer))
        self._resume()  # of some strategies the checkpoint comes after on_fit_start

    def _resume(self) -> None:
        if self._monitor is None or self._loaded is None:
            return
        loaded, self._loaded = self._loaded, None
        try:
            self._monitor.load_state_dict(loaded)
        except Exception as error:
            warnings.warn(
                f"NeuronHealth begins anew: its part of the checkpoint cannot be read: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _place(self, trainer: Trainer) -> str:
        ours = [callback for callback in getattr(trainer, "callbacks", ()) if isinstance(callback, NeuronHealth)]
        return str(next((place for place, callback in enumerate(ours) if callback is self), 0))

    def _keep_state(self) -> None:
        if self._monitor is not None:
            self._state = self._monitor.state_dict(alone=True)

    # How

    def _look_before(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        try:
            self.birth = check_initialization(pl_module, batch, hook_root=False)
            if trainer.is_global_zero:
                _echo(trainer)(self.birth)
        except Exception as error:
            warnings.warn(f"NeuronHealth: no preflight; training goes on: {error!r}", RuntimeWarning, stacklevel=2)

    def _close(self, trainer: Trainer, log_step: int, last: bool, act: bool = True, alone: bool = False) -> None:
        monitor = self._monitor
        if monitor is None:
            return
        before = monitor.report
        monitor.parameters.know_optimizers(trainer.optimizers)  # a layer that has thawed has joined one since
        report = monitor.close(
            self._epoch, trainer.global_step, learning_rate=_learning_rate(trainer), last=last, alone=alone
        )
        if report is None:
            return
        trainer.callback_metrics.update(
            {f"neurohealth/{name}": torch.tensor(value) for name, value in report.scalars().items()}
        )
        with monitor.budget.closing():
            for sink in list(self._open_sinks):
                self._quietly(sink.write, report, max(log_step, 0), sink=sink)
        if act and report.severity is Severity.CRITICAL:
            if self.on_critical == "stop":
                trainer.should_stop = True
            elif self.on_critical == "raise" and (before is None or before.severity is not Severity.CRITICAL):
                raise CriticalFindingError(report.findings[0])

    def _open(self, trainer: Trainer) -> None:
        self._open_sinks = []
        folder = trainer.log_dir  # on every rank: Lightning broadcasts it
        if not trainer.is_global_zero:
            return
        for_real = not (trainer.fast_dev_run or trainer.barebones)  # type: ignore[attr-defined]
        ours = Path(folder) / "neurohealth" if folder and "://" not in folder and for_real else None
        place = Place(ours, tuple(trainer.loggers), _echo(trainer), self.log_level)
        for sink in self.sinks:
            self._open_sinks.append(sink)
            self._quietly(sink.open, place, sink=sink)

    def _finish(self, trainer: Trainer | None) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.remove()
            sinks, self._open_sinks = self._open_sinks, []
            for sink in sinks:
                self._quietly(sink.close, monitor.report, sink=sink)

    def _quietly(self, call: Callable[..., Any], *args: Any, sink: Sink | None = None) -> None:
        try:
            call(*args)
        except CriticalFindingError:
            raise
        except Exception as error:
            who = type(sink).__name__ if sink is not None else "the last report"
            if sink in self._open_sinks:
                self._open_sinks.remove(sink)
            warnings.warn(
                f"NeuronHealth: {who} failed and is left out from now on; training goes on: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )


def _loss_scale(trainer: Trainer) -> Tensor | float:
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not scaler.is_enabled():
        return 1.0
    scale = getattr(scaler, "_scale", None)  # a tensor: get_scale() would wait for the device
    return scale if isinstance(scale, Tensor) else float(scaler.get_scale())


def _gradient_scale(trainer: Trainer) -> Tensor | float:
    """What turns a gradient as it flows on this rank into the gradient of the loss of the whole optimizer step.

    Data-parallel ranks average their gradients, so the loss of the step is the mean of theirs.
    """
    replicas = getattr(trainer.strategy, "distributed_sampler_kwargs", None) or {}
    return 1.0 / (_loss_scale(trainer) * int(replicas.get("num_replicas", 1)))


def _learning_rate(trainer: Trainer) -> float:
    rates = [
        float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups if "lr" in group
    ]
    return max(rates, default=math.nan)


def _is_last_epoch(trainer: Trainer) -> bool:
    epochs = trainer.max_epochs
    stops = trainer.should_stop and trainer.fit_loop._can_stop_early  # which min_epochs and min_steps may forbid
    return stops or (epochs is not None and epochs != -1 and trainer.current_epoch + 1 >= epochs)


def _steps_are_over(trainer: Trainer) -> bool:
    return trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps


def _may_overflow(trainer: Trainer) -> bool:
    """True if a GradScaler skips steps that overflow; it looks at the gradients and waits for the device itself."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler is not None and bool(scaler.is_enabled())


def _echo(trainer: Trainer) -> Callable[[Any], None]:
    bar = trainer.progress_bar_callback

    def echo(text: Any) -> None:
        if is_tqdm(bar):
            tqdm.write(str(text))  # its own print says nothing while no bar is open
        elif bar is not None and getattr(bar, "is_enabled", True):
            bar.print(text)
        else:
            print(text, file=sys.stdout, flush=True)

    return echo
