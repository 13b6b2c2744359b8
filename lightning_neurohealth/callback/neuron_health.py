"""The callback."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_neurohealth.callback.checkpoint_part import CheckpointPart
from lightning_neurohealth.callback.evaluation import Evaluates
from lightning_neurohealth.callback.faults import guarded, went_well
from lightning_neurohealth.callback.last_words import LastWords
from lightning_neurohealth.callback.outlets import Outlets
from lightning_neurohealth.callback.relay import Relay
from lightning_neurohealth.callback.trainers import (
    batches_that_stepped,
    echo,
    epoch_steps,
    is_last_epoch,
    learning_rate,
    place_of,
    steps_are_over,
    validation_loss,
)
from lightning_neurohealth.evaluator import of_forwards
from lightning_neurohealth.findings import CriticalFindingError, Severity
from lightning_neurohealth.interventions import (
    Ablation,
    Agreement,
    Fitness,
    Preflight,
    agreement,
    check_initialization,
    fitness,
)
from lightning_neurohealth.monitor import Monitor
from lightning_neurohealth.report import Report
from lightning_neurohealth.rules import Rule
from lightning_neurohealth.settings import Settings, one_of
from lightning_neurohealth.sinks import Sink, default_sinks


class NeuronHealth(Evaluates):
    """Finds sick neurons while a model trains: ``Trainer(callbacks=[NeuronHealth()])``.

    Args:
        every_n_steps: Measure one training step in N; the others run as if nobody watched.
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
            of up to 65,536 numbers, and of a larger tensor 16,383 numbers in 31 to 255 rows; ``None`` for all.
            Counts are exact for the rows that were measured.
        fused: Take all sums over rows in one pass: on the CPU by a library in C, which is compiled once on each
            machine in some three seconds and kept in the user's cache; elsewhere by ``torch.compile``, ``True`` at
            once, ``"auto"`` once single sums have cost more than compiling does. Where no compiler is, and with
            ``False``, sums are taken one by one.
        saturation_cutoff: From where on ``saturation_rate`` counts an activation as stuck at an end of its range:
            |a| of tanh, a or 1 − a of sigmoid; between 0.5 and 1, e.g. 0.9. Rules go by 0.99 all the same.
        preflight: Look at the model once more before its first update, by an extra ``training_step`` of the first
            batch, and say whether it is fit to be trained.
        evaluate: Measure the activations of ``trainer.validate``, ``test`` and ``predict`` too, of every batch, in a
            report of their own.

    Attributes:
        evaluation: The report of the last of these, ``None`` before.
        birth: What the preflight has shown, ``None`` before it.
        report: The last report, ``None`` before the first window has closed.
        reports: Every report so far. The first and the last 101 hold each neuron's numbers, or as many as half a
            gigabyte holds; those between, in single precision, the mean of each measure over a layer's neurons, and
            over the points of a series.

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
        saturation_cutoff: float = 0.99,
        preflight: bool = False,
        evaluate: bool = False,
    ) -> None:
        super().__init__(evaluate)
        self.settings = Settings(
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
        if evaluate:
            of_forwards(self.settings)
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
        self._relay: Relay | None = None
        self._outlets = Outlets()
        self._checkpoints = CheckpointPart()
        self._last_words: LastWords | None = None
        self._looks = False

    @property
    def report(self) -> Report | None:
        """The last report, ``None`` before the first window has closed."""
        return self.reports[-1] if self.reports else None

    def fitness(self, score: str = "taylor", **weights: float) -> Fitness:
        """Fitness of every neuron from the last report; see :func:`lightning_neurohealth.interventions.fitness`."""
        return fitness(self.report, score, **weights)

    def agreement(self, ablation: Ablation, scores: Sequence[str] | None = None) -> Agreement:
        """Which cheap score to trust; see :func:`lightning_neurohealth.interventions.agreement`."""
        return agreement(self.report, ablation, scores)

    # The run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        callbacks = getattr(trainer, "callbacks", ())
        if sum(callback is self for callback in callbacks) > 1:
            raise ValueError("one NeuronHealth object is in callbacks twice, and would count every step twice")
        self._checkpoints.begin(fit=stage == "fit")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish()
        # under DDP the wrapper calls the root for training_step, with the batch
        monitor = Monitor.of(pl_module, self.settings, hook_root=False, wrapper=trainer.strategy.model)
        monitor.parameters.know_optimizers(trainer.optimizers)
        self._relay, self.reports = Relay(monitor, pl_module), monitor.reports
        self._checkpoints.restore(monitor)
        self.birth, self._looks = None, self.preflight and monitor.steps == 0
        folder = trainer.log_dir  # on every rank: Lightning broadcasts it
        if trainer.is_global_zero:
            self._outlets = Outlets(self.sinks, place_of(trainer, folder, self.log_level))
        self._last_words = LastWords(lambda: self._break_off(trainer))

    @guarded
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._relay is not None:
            self._relay.start(trainer)
            steps = epoch_steps(trainer)
            if steps is not None:
                self._relay.monitor.step_batches = trainer.accumulate_grad_batches
                self._relay.monitor.epoch_steps = steps

    @guarded
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._relay is not None:
            if self._looks:
                self._looks = False
                self._look_before(trainer, pl_module, batch)
            self._relay.begin(batch)

    @guarded
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self._relay is not None:
            self._relay.before_backward(trainer, pl_module, loss)

    @guarded
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._relay is not None:
            self._relay.after_backward(pl_module)

    @guarded
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self._relay is not None:
            self._relay.before_update(trainer, optimizer)

    @guarded
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._relay is None or not self._relay.end(trainer, pl_module, outputs, batch):
            return
        window = self.settings.window
        if window != "epoch" and self._relay.monitor.window_steps >= window:
            last = (trainer.is_last_batch and is_last_epoch(trainer)) or steps_are_over(trainer)
            self._close(trainer, batches_that_stepped(trainer), last)

    @guarded
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self._monitor is not None and not trainer.sanity_checking:
            loss = validation_loss(trainer)
            if loss is not None:
                self._monitor.record_validation_loss(loss)

    @guarded
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.settings.window == "epoch":
            # Lightning logs what it reduces over the epoch at the step that has just ended
            step = batches_that_stepped(trainer) - 1
            self._close(trainer, step, last=is_last_epoch(trainer) or steps_are_over(trainer))

    @guarded
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        monitor = self._monitor
        if monitor is not None:
            if monitor.window_steps:
                self._close(trainer, batches_that_stepped(trainer) - 1, last=True)
            self._checkpoints.last = monitor.state_dict(ended=True)
            self._finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._break_off(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._finish()

    # Checkpoints

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state of the middle of the window; all ranks must save at the same step, as Lightning asks anyway."""
        self._checkpoints.save(checkpoint, self._place(trainer), self._monitor, alone=trainer.interrupted)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._checkpoints.load(checkpoint, self._place(trainer))
        self._checkpoints.restore(self._monitor)  # of some strategies the checkpoint comes after on_fit_start

    def _place(self, trainer: Trainer) -> str:
        ours = [callback for callback in getattr(trainer, "callbacks", ()) if isinstance(callback, NeuronHealth)]
        return str(next((place for place, callback in enumerate(ours) if callback is self), 0))

    def _keep_state(self) -> None:
        if self._monitor is not None:
            self._checkpoints.last = self._monitor.state_dict(alone=True)

    # How

    @property
    def _monitor(self) -> Monitor | None:
        return None if self._relay is None else self._relay.monitor

    def _look_before(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        try:
            self.birth = check_initialization(pl_module, batch, hook_root=False)
            if trainer.is_global_zero:
                echo(trainer)(self.birth)
        except Exception as error:
            warnings.warn(f"NeuronHealth: no preflight; training goes on: {error!r}", RuntimeWarning, stacklevel=2)

    def _close(self, trainer: Trainer, log_step: int, last: bool, act: bool = True, alone: bool = False) -> None:
        if self._relay is None:
            return
        monitor, before = self._relay.monitor, self.report
        if monitor.is_still:
            monitor.parameters.know_optimizers(trainer.optimizers)  # a layer that has thawed has joined one since
        report = monitor.close(
            self._relay.epoch, trainer.global_step, learning_rate=learning_rate(trainer), last=last, alone=alone
        )
        if report is None:
            return
        if not alone:  # Lightning may compute its own first, with the other ranks
            trainer.callback_metrics.update(
                {f"neurohealth/{name}": torch.tensor(value) for name, value in report.scalars().items()}
            )
        with monitor.budget.closing():
            self._outlets.write(report, max(log_step, 0))
        if act and report.severity is Severity.CRITICAL:
            if self.on_critical == "stop":
                trainer.should_stop = True
            elif self.on_critical == "raise" and (before is None or before.severity is not Severity.CRITICAL):
                raise CriticalFindingError(report.findings[0])

    def _break_off(self, trainer: Trainer) -> None:
        if self._monitor is not None:
            self._monitor.abandon()
            step = batches_that_stepped(trainer)
            went_well("the last report", self._close, trainer, step, True, False, True)
            went_well("the last report", self._keep_state)
            self._finish()

    def _finish(self) -> None:
        monitor = self._monitor
        if self._last_words is not None:
            self._last_words.drop()
            self._last_words = None
        if monitor is not None:
            self._relay = None
            monitor.remove()
            outlets, self._outlets = self._outlets, Outlets()
            outlets.close(monitor.report)
