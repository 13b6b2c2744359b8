"""Our points lie where Lightning's own metrics of the same window lie."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler
from lightning.pytorch.loggers.logger import Logger
from torch import nn

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.sinks import Loggers

BATCHES = 10


class Recorder(Logger):
    """Keeps where each metric was logged."""

    def __init__(self):
        super().__init__()
        self.steps = {}

    name, version = "recorder", 0

    def log_metrics(self, metrics, step=None):
        for key in metrics:
            self.steps.setdefault(key, []).append(step)

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def loss(self, batch):
        loss = (self.body(batch) - 1).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def training_step(self, batch, index):
        return self.loss(batch)

    def validation_step(self, batch, index):
        self.log("val_loss", self.body(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class TwoOptimizers(Net):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, index):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(layer.parameters(), 0.01) for layer in (self.body[0], self.body[2])]


def fit(model=None, window="epoch", ckpt=None, callbacks=(), **more):
    loggers = [Recorder(), Recorder()]
    trainer = Trainer(
        **{"max_epochs": 3, "log_every_n_steps": 1, "limit_val_batches": 2, **more},
        logger=loggers,
        callbacks=[NeuronHealth(every_n_steps=1, window=window, sinks=[Loggers()]), *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accelerator="cpu",
    )
    data = torch.utils.data.DataLoader(torch.randn(4 * BATCHES, 4), batch_size=4)
    trainer.fit(Net() if model is None else model, data, data, ckpt_path=ckpt)
    assert loggers[0].steps == loggers[1].steps
    return trainer, loggers[0].steps


CASES = {
    "plain": {},
    "accumulation": {"accumulate_grad_batches": 3},  # the epoch's fourth update has one batch
    "growing accumulation": {"callbacks": [GradientAccumulationScheduler({0: 1, 1: 4})]},
    "fewer batches": {"limit_train_batches": 7},
    "max_steps": {"max_steps": 14, "max_epochs": -1},
    "max_steps and accumulation": {"max_steps": 6, "max_epochs": -1, "accumulate_grad_batches": 3},
    "validation within": {"val_check_interval": 4},
    "two optimizers": {"model": TwoOptimizers},
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_epoch(case):
    more = dict(CASES[case])
    model = more.pop("model", Net)()
    _, steps = fit(model, **more)
    assert len(steps["neurohealth/score"]) >= 2
    assert steps["neurohealth/score"] == steps["loss_epoch"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_some_steps(case):
    more = dict(CASES[case])
    model = more.pop("model", Net)()
    trainer, steps = fit(model, window=2, **more)
    optimizers = len(trainer.optimizers)
    ends = [step for i, step in enumerate(dict.fromkeys(steps["loss_step"])) if i % 2 == 1]
    shorter = [] if trainer.global_step // optimizers % 2 == 0 else [max(steps["loss_step"])]
    assert steps["neurohealth/score"] == ends + shorter


class Save(Callback):
    def __init__(self, path, epoch):
        self.path, self.epoch = path, epoch

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_resumed_run(tmp_path, accumulate):
    file = tmp_path / "one.ckpt"
    _, before = fit(accumulate_grad_batches=accumulate, callbacks=[Save(file, 0)], max_epochs=1)
    _, after = fit(accumulate_grad_batches=accumulate, ckpt=file)
    assert after["neurohealth/score"] == after["loss_epoch"]
    assert before["neurohealth/score"][-1] < after["neurohealth/score"][0]


class LogsStep(Net):
    """A metric of this name is where Lightning puts the others: users log the epoch like that."""

    def on_train_epoch_end(self):
        self.log("step", float(self.current_epoch))


@pytest.mark.parametrize("window", ["epoch", 5])
def test_a_metric_called_step_does_not_move_ours(window):
    _, plain = fit(window=window)
    trainer, steps = fit(LogsStep(), window=window)
    assert steps["loss_epoch"] == [0, 1, 2]
    assert steps["neurohealth/score"] == plain["neurohealth/score"]
    assert float(trainer.callback_metrics["step"]) == 2
