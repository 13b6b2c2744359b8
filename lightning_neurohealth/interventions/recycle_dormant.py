"""RecycleDormant: the callback that recycles dormant neurons while a model trains."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from lightning_neurohealth.compiled import eager
from lightning_neurohealth.hosts import Callback
from lightning_neurohealth.interventions.looking import Nobody
from lightning_neurohealth.interventions.recycling import begin_anew, obstacle
from lightning_neurohealth.interventions.wiring import Wiring
from lightning_neurohealth.patterns import Patterns
from lightning_neurohealth.settings import whole_number
from lightning_neurohealth.tracing.finder import LayerFinder

if TYPE_CHECKING:
    from lightning_neurohealth.callback import NeuronHealth


@dataclass(frozen=True)
class Recycled:
    """Neurons that began anew.

    Attributes:
        step: Optimizer steps before.
        neurons: Layer to indices.
    """

    step: int
    neurons: dict[str, list[int]]


class RecycleDormant(Callback):
    """Gives dormant neurons a new start: ``Trainer(callbacks=[NeuronHealth(), RecycleDormant()])``.

    After every n-th window of NeuronHealth, neurons with a dormancy of at most tau get fresh incoming weights and
    outgoing weights of 0, and the optimizer forgets its moments of them; the same ones on every rank. How many is
    logged as ``neurohealth/recycled``. Layers in which that cannot be done (residual sums, tied weights) stay as they
    are, see ``left``. What a neuron gave is missing then, a constant of a norm behind it too, which :func:`recycle`
    leaves in a bias. Only what the first training step runs is known. A checkpoint keeps the count of windows, what was
    recycled, and what is due.

    Args:
        every_n_windows: Recycle at the end of one window in N.
        tau: A neuron with at most this share of its layer's mean activity is dormant. 0.1 as in the paper, which is
            more than NeuronHealth calls a finding: recycling a neuron that is nearly silent costs little.
        seed: Of the fresh weights.

    Attributes:
        history: What was recycled when.
        left: Layers that cannot be recycled, each with the reason.

    Raises:
        TypeError, ValueError: A setting is out of range; at ``on_fit_start``, there is no NeuronHealth that measures
            dormancy among the callbacks, or the strategy splits parameters over ranks.

    Source: Sokar et al. (2023), "The dormant neuron phenomenon in deep reinforcement learning" (ReDo).
    """

    def __init__(self, every_n_windows: int = 1, tau: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        whole_number("every_n_windows", every_n_windows)
        if isinstance(tau, bool) or not isinstance(tau, (int, float)):
            raise TypeError(f"tau={tau!r}: must be a number")
        if not 0 <= tau < 1:
            raise ValueError(f"tau={tau}: must be at least 0 and less than 1, the activity of the average neuron")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed={seed!r}: must be a whole number")
        self.every_n_windows, self.tau, self.seed = every_n_windows, float(tau), seed
        self.history: list[Recycled] = []
        self.left: dict[str, str] = {}
        self._windows = 0
        self._due: dict[str, list[int]] | None = None
        self._loaded: dict[str, Any] | None = None
        self._health: NeuronHealth | None = None
        self._wiring: Wiring | None = None
        self._known = False

    def state_dict(self) -> dict[str, Any]:
        self._look()
        history = [{"step": recycled.step, "neurons": recycled.neurons} for recycled in self.history]
        return {"windows": self._windows, "due": self._due, "history": history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._loaded = None  # what another run has loaded

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()
        health = _health_of(trainer)
        if "dormancy" not in health.settings.chosen_measures:
            raise ValueError('RecycleDormant needs NeuronHealth to measure "dormancy"; add it to measures')
        if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
            raise ValueError(f"RecycleDormant cannot change parameters that {type(trainer.strategy).__name__} splits")
        state = self._loaded or {"windows": 0, "due": None, "history": []}
        self.history = [Recycled(**recycled) for recycled in state["history"]]
        self._windows, self._due, self._health = state["windows"], state["due"], health
        self.left, self._known = {}, False
        finder = LayerFinder(pl_module, Patterns(None, None), seeks_heads=False)
        self._wiring = Wiring(pl_module, finder, Nobody(), hook_root=False)
        self._wiring.failure = self._failed
        self._wiring.backward = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        try:
            self._begin(trainer, pl_module)
        except Exception as error:
            self._failed(error)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._seen()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._seen()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._end()

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wiring = self._wiring
        if wiring is None:
            return
        if not self._known:
            wiring.attach()
            eager.enter(self)
            wiring.arm()
            return
        self._look()
        if self._due is not None:
            due, self._due = self._due, None
            count = {"neurohealth/recycled": float(self._recycle(trainer, wiring, due))}
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in count.items()})
            for logger in trainer.loggers:
                logger.log_metrics(count, step=trainer.fit_loop.epoch_loop._batches_that_stepped)

    def _look(self) -> None:
        """Note what is due, if a window has closed since the last look."""
        last = self._health.report if self._health is not None else None
        if last is None or last.index + 1 == self._windows:
            return
        self._windows = last.index + 1
        if self._windows % self.every_n_windows == 0:
            self._due = {
                name: (measures["dormancy"] <= self.tau).nonzero().flatten().tolist()
                for name, measures in last.items()
                if "dormancy" in measures
            }

    def _recycle(self, trainer: Trainer, wiring: Wiring, due: dict[str, list[int]]) -> int:
        found = {}
        for name, dormant in due.items():
            if not dormant:
                continue
            layer = wiring.finder.layers.get(name)
            reason = obstacle(wiring, layer) if layer is not None else "the first training step did not run it"
            if reason or layer is None:
                self.left[name] = reason
            else:
                found[layer] = dormant
        if not found:
            return 0
        count = begin_anew(wiring, found, trainer.optimizers, self.seed + trainer.global_step)
        self.history.append(Recycled(trainer.global_step, {layer.name: dormant for layer, dormant in found.items()}))
        return count

    def _seen(self) -> None:
        if self._wiring is not None and self._wiring.armed:
            self._wiring.remove()
            self._wiring.examine()
            eager.leave(self)
            self._known = True

    def _end(self) -> None:
        self._look()
        self._health = None
        if self._wiring is not None:
            self._wiring.remove()
            eager.leave(self)
        self._wiring = None

    def _failed(self, error: BaseException) -> None:
        self._end()
        warnings.warn(
            f"RecycleDormant has failed and recycles nothing in this run; training goes on: {error!r}",
            RuntimeWarning,
            stacklevel=2,
        )


def _health_of(trainer: Trainer) -> NeuronHealth:
    from lightning_neurohealth.callback import NeuronHealth

    found = [callback for callback in trainer.callbacks if isinstance(callback, NeuronHealth)]  # type: ignore[attr-defined]
    if not found:
        raise ValueError(
            "RecycleDormant needs the windows of NeuronHealth: Trainer(callbacks=[NeuronHealth(), RecycleDormant()])"
        )
    return found[0]
