"""Nothing stays behind, however a run goes."""

from __future__ import annotations

import copy
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from lightning_neurohealth.sinks import Files
from tests.training import (
    MLP,
    Functional,
    Learner,
    Validated,
    at_each_signal,
    fit,
    make_data,
    make_health,
    make_trainer,
    traces,
    watch_step,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def sigint() -> Iterator[None]:
    """Lightning ignores further interrupts once it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


class Failing(Validated):
    """Raises ``error`` in the third training step, or in the validation after the second."""

    def __init__(self, net: nn.Module, error: BaseException, where: str) -> None:
        super().__init__(net)
        self.error, self.where = error, where

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.where == "training" and batch_idx == 2:
            raise self.error
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if self.where == "validation":
            raise self.error


# What stays behind


@pytest.mark.parametrize("every_n_steps", [1, 3])
def test_nothing_is_left_after_fit(every_n_steps: int) -> None:
    seen: list[dict[str, Any]] = []
    model = Learner(Functional(), at_step=lambda model, step: seen.append(traces(model)))
    before = traces(model)
    fit(model, every_n_steps=every_n_steps, max_epochs=2)
    assert seen[0]["net.fc1: hooks"]  # so that there was something to leave
    assert seen[0]["modes"]
    assert bool(seen[1]["modes"]) == (every_n_steps == 1)
    assert traces(model) == before


@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.parametrize("error", [ValueError("of the user"), KeyboardInterrupt()], ids=["exception", "interrupt"])
@pytest.mark.usefixtures("sigint")
def test_nothing_is_left_after_a_failure(error: BaseException, where: str) -> None:
    model = Failing(Functional(), error, where)
    before, health = traces(model), make_health()
    # Lightning turns an interrupt into an exit
    with pytest.raises(type(error) if isinstance(error, Exception) else (SystemExit, KeyboardInterrupt)):
        make_trainer(health, val_check_interval=2).fit(model, make_data(), make_data(rows=8))

    assert traces(model) == before
    assert health.report is not None
    assert (health.report.steps, health.report.measured) == (2, 2)
    assert float(health.report["net.fc1"]["activation_rows"]) == 16
    assert health.report.last


@pytest.mark.parametrize(("at", "rows"), [(2, [16]), (3, [16, 8])])
def test_report_after_an_exception_in_a_later_window(at: int, rows: list[int]) -> None:
    model = Learner(MLP(), at_step=lambda model, step: 1 / (at - step))
    health = make_health(window=2)
    with pytest.raises(ZeroDivisionError):
        make_trainer(health).fit(model, make_data())
    assert [float(r["net.fc1"]["activation_rows"]) for r in health.reports] == rows


def test_exception_in_the_first_step() -> None:
    model = Learner(MLP(), at_step=lambda *_: 1 / 0)
    before, health = traces(model), make_health()
    with pytest.raises(ZeroDivisionError):
        make_trainer(health).fit(model, make_data())
    assert health.report is None
    assert traces(model) == before


def test_compile_stance_of_the_user_is_kept() -> None:
    seen = []
    torch.compile(lambda x: x, backend="eager")  # where nothing is compiled nobody looks at it
    before = torch.compiler.set_stance("eager_on_recompile")
    try:
        model = Learner(MLP(), at_step=lambda model, step: seen.append(traces(model)["stance"]))
        fit(model, every_n_steps=2)
        assert traces(model)["stance"] == "eager_on_recompile"
    finally:
        before.__exit__(None, None, None)
    assert seen == ["force_eager", "eager_on_recompile"] * 2


@pytest.fixture
def default_stance() -> Iterator[None]:
    yield
    torch.compiler.set_stance("default")


@pytest.mark.usefixtures("default_stance")
def test_two_callbacks_leave_nothing() -> None:
    model = Learner(Functional())
    before = traces(model)
    make_trainer(make_health(), make_health(every_n_steps=2)).fit(model, make_data())
    assert traces(model) == before


# Copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_a_copy_does_not_feed_the_monitor(copied: Callable[[nn.Module], nn.Module]) -> None:
    def use_a_copy(model: Learner, step: int) -> None:
        twin = copied(model.net)
        twin(torch.ones(3, 4)).sum().backward()
        assert twin.fc1.weight.grad is not None

    torch.manual_seed(0)
    net = Functional()
    alone = fit(Learner(copy.deepcopy(net))).report
    copied_in_each_step = fit(Learner(net, at_step=use_a_copy)).report
    for measure in ("activation_rows", "on_rate", "gradient_flow"):
        assert torch.equal(copied_in_each_step["net.fc1"][measure], alone["net.fc1"][measure]), measure


# What is not measured


def test_only_training_is_measured() -> None:
    model, health = Validated(MLP()), make_health()
    trainer = make_trainer(health, num_sanity_val_steps=2, max_epochs=2)
    trainer.fit(model, make_data(), make_data(rows=80))
    assert [float(r["net.fc1"]["activation_rows"]) for r in health.reports] == [32, 32]

    trainer.validate(model, make_data(), verbose=False)
    trainer.test(model, make_data(), verbose=False)
    trainer.predict(model, make_data())
    assert len(health.reports) == 2


def test_validation_alone_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    at_each_signal(monkeypatch, lambda step, signal: pytest.fail("something was measured"))
    model, health = Validated(MLP()), make_health()
    before, trainer = traces(model), make_trainer(health)
    trainer.validate(model, make_data(), verbose=False)
    trainer.test(model, make_data(), verbose=False)
    trainer.predict(model, make_data())
    assert health.report is None
    assert traces(model) == before


@pytest.mark.filterwarnings("ignore:You are trying to `self.log", "ignore:.*does not have many workers")
@pytest.mark.parametrize(("option", "written"), [("fast_dev_run", False), ("barebones", False), ("logger", True)])
def test_a_run_that_keeps_nothing_gets_no_files(option: str, written: bool, tmp_path: Path) -> None:
    trainer = Trainer(
        callbacks=[make_health(sinks=[Files()])],
        max_epochs=1,
        default_root_dir=tmp_path,
        accelerator="cpu",
        **{option: not written},
    )
    trainer.fit(Learner(MLP()), make_data())
    assert bool(list(tmp_path.rglob("findings.json"))) == written


# More than one fit, more than one callback


def test_second_fit_with_the_same_callback() -> None:
    health = make_health()
    model = Learner(MLP())
    make_trainer(health).fit(model, make_data())
    first = health.reports
    make_trainer(health, max_epochs=2).fit(Learner(MLP(hidden=5)), make_data())
    assert len(first) == 1
    assert [r.index for r in health.reports] == [0, 1]
    assert health.report["net.fc1"]["on_rate"].shape == (5,)
    assert float(health.report["net.fc1"]["activation_rows"]) == 32


def test_a_checkpoint_loads_and_the_run_goes_on(tmp_path: Path) -> None:
    health, file = make_health(), tmp_path / "last.ckpt"
    trainer = make_trainer(health, max_epochs=2)
    trainer.fit(Learner(MLP()), make_data())
    trainer.save_checkpoint(file)
    torch.load(file, weights_only=True)

    make_trainer(health, max_epochs=4).fit(Learner(MLP()), make_data(), ckpt_path=file)
    assert [(r.epoch, r.step, r.steps) for r in health.reports] == [(2, 12, 4), (3, 16, 4)]
    assert float(health.report["net.fc1"]["activation_rows"]) == 32


def test_score_decides_on_checkpoints_and_on_the_end(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path, monitor="neurohealth/score", mode="max")
    stopping = EarlyStopping("neurohealth/score", mode="max", patience=1, check_on_train_epoch_end=True)
    trainer = make_trainer(make_health(), best, stopping, enable_checkpointing=True, max_epochs=5)
    trainer.fit(Learner(MLP()), make_data())
    assert float(best.best_model_score) == 1.0
    assert trainer.current_epoch == 2  # it did not improve


@pytest.mark.usefixtures("default_stance")
def test_two_callbacks_report_the_same() -> None:
    a, b = make_health(measures="full"), make_health(measures="full")
    make_trainer(a, b, max_epochs=2).fit(Learner(Functional()), make_data())
    assert len(a.reports) == len(b.reports) == 2
    for one, other in zip(a.reports, b.reports, strict=True):
        assert one.to_dict() == other.to_dict()
        for name, layer in one.items():
            assert layer.keys() == other[name].keys()
            for measure, value in layer.items():
                assert torch.equal(value.nan_to_num(), other[name][measure].nan_to_num()), (name, measure)


def test_removing_twice_is_harmless() -> None:
    net = MLP()
    monitor, _ = watch_step(net, torch.ones(2, 4))
    before = traces(net)
    monitor.remove()
    assert traces(net) == before
