"""Measures ``trainer.validate``, ``test`` and ``predict``, for those who ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lightning_neurohealth.callback.outlets import Outlets
from lightning_neurohealth.callback.trainers import echo, place_of
from lightning_neurohealth.evaluator import Evaluator, of_forwards
from lightning_neurohealth.hosts import Callback
from lightning_neurohealth.report import Report
from lightning_neurohealth.settings import Settings
from lightning_neurohealth.sinks import Console, Sink


class Evaluates(Callback):
    """The part of NeuronHealth that measures evaluations.

    Attributes:
        evaluate: True if they are to be measured.
        evaluation: The report of the last one.
    """

    settings: Settings
    sinks: list[Sink]
    log_level: str

    def __init__(self, evaluate: bool) -> None:
        super().__init__()
        if not isinstance(evaluate, bool):
            raise TypeError(f"evaluate={evaluate!r}: must be true or false")
        self.evaluate = evaluate
        self.evaluation: Report | None = None
        self._evaluator: Evaluator | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.evaluate and trainer.state.fn != TrainerFn.FITTING:
            self._end_evaluation()
            with torch.inference_mode(False):
                self._evaluator = Evaluator(pl_module, of_forwards(self.settings))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._evaluator is not None:
            self._quietly(self._evaluator.begin_step)
            self._quietly(self._evaluator.begin_batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._evaluator is not None:
            self._quietly(self._evaluator.end_batch)
            self._quietly(self._evaluator.end_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._evaluator is not None:
            self._quietly(self._report_evaluation, trainer)
            self._end_evaluation()

    on_test_start = on_predict_start = on_validation_start
    on_test_batch_start = on_predict_batch_start = on_validation_batch_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Evaluates.on_validation_end(self, trainer, pl_module)

    on_predict_end = on_test_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._end_evaluation()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._end_evaluation()

    # How

    def _report_evaluation(self, trainer: Trainer) -> None:
        evaluator = self._evaluator
        report = None if evaluator is None else evaluator.finish(trainer.current_epoch, trainer.global_step)
        if report is None:
            return
        self.evaluation = report
        if trainer.is_global_zero:
            consoles = [sink for sink in self.sinks if isinstance(sink, Console)]
            fn = trainer.state.fn
            if consoles and fn is not None:
                echo(trainer)(f"trainer.{fn.value}:")
            Outlets(consoles, place_of(trainer, None, self.log_level)).write(report, report.step)

    def _end_evaluation(self) -> None:
        if self._evaluator is not None:
            self._evaluator.remove()
            self._evaluator = None

    def _quietly(self, call: Callable[..., object], *args: Any) -> None:
        evaluator = self._evaluator
        try:
            with torch.inference_mode(False), torch.no_grad():
                call(*args)
        except Exception as error:
            if evaluator is not None:
                evaluator.fail(error)
