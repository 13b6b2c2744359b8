"""Tells a monitor what happens within a training step of Lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lightning_neurohealth.callback.trainers import gradient_scale, loss_scale, may_overflow
from lightning_neurohealth.monitor import Monitor


class Relay:
    """The steps of one fit.

    Attributes:
        monitor: Who is told.
        epoch: Epoch of the last optimizer step.
    """

    def __init__(self, monitor: Monitor, pl_module: LightningModule) -> None:
        self.monitor = monitor
        self.epoch = self._global_step = 0
        self._backward_seen = False
        self._backwards = 0
        self._stepped: set[int] = set()
        self._several = False
        monitor.taps.backward = not pl_module.automatic_optimization

    def start(self, trainer: Trainer) -> None:
        """Training begins, or goes on."""
        self._global_step = trainer.global_step
        self._several = len(trainer.optimizers) > 1

    def begin(self, batch: Any) -> None:
        """A batch comes."""
        self._backwards = 0
        self._stepped.clear()
        self.monitor.begin_step()
        self.monitor.begin_batch(batch)

    def before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Its loss, multiplied by the loss scale, is known."""
        monitor = self.monitor
        self._backward_seen = True
        self._backwards += 1
        if monitor.measuring:
            monitor.taps.follow(functions=False)
            monitor.taps.backward = True
            monitor.intake.gradient_scale = gradient_scale(trainer)
        if not pl_module.automatic_optimization:
            monitor.record_loss(loss.detach() / loss_scale(trainer))

    def after_backward(self, pl_module: LightningModule) -> None:
        """Gradients have flowed."""
        if not self.monitor.measuring:
            return
        taps = self.monitor.taps
        taps.backward = False
        taps.new_forward()
        if not pl_module.automatic_optimization:
            taps.follow(functions=True)

    def before_update(self, trainer: Trainer, optimizer: Optimizer) -> None:
        """Gradients are final."""
        self._stepped.add(id(optimizer))
        monitor = self.monitor
        if monitor.measuring:
            if may_overflow(trainer) and not monitor.parameters.gradients_are_finite():
                monitor.skip_gradients()
            fused = getattr(optimizer, "_step_supports_amp_scaling", False)  # it takes the loss scale off by itself
            monitor.parameter_taps.scale = loss_scale(trainer) if fused else 1.0
            monitor.before_update(optimizer if self._several else None)

    def end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> bool:
        """The batch is over; False while gradients are still being accumulated."""
        monitor = self.monitor
        if monitor.measuring:
            monitor.record_step(outputs, batch)
            monitor.end_batch()
        if self._several and self._stepped and not monitor.progress.adversarial:
            # several losses, each with an optimizer of its own; two optimizers may also share one loss
            monitor.progress.adversarial = self._backwards > 1 or len(self._stepped) < len(trainer.optimizers)
        automatic = pl_module.automatic_optimization
        if automatic and isinstance(outputs, dict) and isinstance(outputs.get("loss"), Tensor):
            batches = trainer.accumulate_grad_batches
            monitor.record_loss(outputs["loss"] if batches == 1 else outputs["loss"] * batches)
        step = trainer.global_step
        if automatic and step == self._global_step:
            return False
        self._global_step, self.epoch = step, trainer.current_epoch
        monitor.end_step(stepped=True)
        if not automatic and not self._backward_seen:
            monitor.taps.backward = True
        return True
