"""Nothing stays behind, and nothing of ours ends a run, however it goes."""

from __future__ import annotations

import copy
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from lightning_neurohealth import CriticalFindingError, Report, Severity
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import LayerRule, RunRule, Verdict
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.sinks import Files, Sink
from tests.training import MLP, Learner, Validated, fit, make_data, make_health, make_trainer, traces, watch_step


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def sigint() -> Iterator[None]:
    """Lightning ignores further interrupts once it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


class Functional(MLP):
    """With a plain function too, so that steps are traced."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.act(self.fc1(x))))


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
    monkeypatch.setattr(Ledger, "take_soon", lambda *_: pytest.fail("something was measured"))
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


# Critical findings


@dataclass(frozen=True, kw_only=True)
class Alarm(RunRule):
    """CRITICAL from the start."""

    windows: int = 1
    grace: int = 0

    def judge(self, train_loss: Tensor) -> list[Verdict]:
        return [Verdict(Severity.CRITICAL, 1.0, 0.5, "it is bad", "a test", "none")]


@pytest.mark.parametrize("window", [3, "epoch"])
def test_on_critical_stop(window: Any) -> None:
    health = make_health(on_critical="stop", rules=[Alarm()], window=window)
    trainer = make_trainer(health, max_epochs=5)
    trainer.fit(Learner(MLP()), make_data())
    assert trainer.global_step == (3 if window == 3 else 4)
    assert health.report.severity is Severity.CRITICAL
    assert trainer.state.finished


@pytest.mark.parametrize("window", [3, "epoch", 100])
def test_on_critical_raise(window: Any) -> None:
    health = make_health(on_critical="raise", rules=[Alarm()], window=window)
    model = Learner(MLP())
    before = traces(model)
    with pytest.raises(CriticalFindingError, match="it is bad"):
        make_trainer(health).fit(model, make_data())
    assert [r.severity for r in health.reports] == [Severity.CRITICAL]
    assert traces(model) == before


def test_on_critical_warn() -> None:
    health = make_health(on_critical="warn", rules=[Alarm()])
    trainer = make_trainer(health, max_epochs=3)
    trainer.fit(Learner(MLP()), make_data())
    assert trainer.global_step == 12
    assert [r.severity for r in health.reports] == [Severity.CRITICAL] * 3


# Failures of ours


def our_warning(run: Callable[[], object]) -> str:
    """The one warning of NeuronHealth that ``run`` gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    messages = [str(w.message) for w in caught if "NeuronHealth" in str(w.message)]
    assert len(messages) == 1
    assert issubclass(next(w.category for w in caught if str(w.message) == messages[0]), RuntimeWarning)
    return messages[0]


class Broken(Sink):
    """Raises in one of its methods."""

    def __init__(self, where: str) -> None:
        self.where, self.calls = where, []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.where:
            raise OSError("disk full")

    def open(self, place: Any) -> None:
        self._call("open")

    def write(self, report: Report, step: int) -> None:
        self._call("write")

    def close(self, report: Report | None) -> None:
        self._call("close")


@pytest.mark.parametrize("where", ["open", "write", "close"])
def test_a_broken_sink_is_named_once(where: str) -> None:
    broken, sound = Broken(where), Broken("nowhere")
    health = make_health(sinks=[broken, sound])
    trainer = make_trainer(health, max_epochs=3)
    message = our_warning(lambda: trainer.fit(Learner(MLP()), make_data()))
    assert "Broken failed" in message
    assert "disk full" in message
    assert trainer.global_step == 12
    assert sound.calls == ["open", "write", "write", "write", "close"]
    assert broken.calls.count(where) == 1
    assert len(health.reports) == 3


@dataclass(frozen=True, kw_only=True)
class BrokenRule(LayerRule):
    """Raises."""

    grace: int = 0

    def judge(self, on_rate: Tensor) -> None:
        raise ZeroDivisionError("in a rule")


def test_a_broken_rule_is_named_once() -> None:
    health = make_health(rules=[BrokenRule(), Alarm()])
    message = our_warning(lambda: fit(MLP(), health=health, max_epochs=3))
    assert "broken_rule failed" in message
    assert "in a rule" in health.report.not_judged["broken_rule"]
    assert [r.findings[0].condition for r in health.reports] == ["alarm"] * 3


def fails_in_hooks(patch: pytest.MonkeyPatch) -> None:
    take = Ledger.take_soon

    def broken(self: Ledger, subject: Any, signal: Signal, x: Tensor) -> None:
        if signal is Signal.ACTIVATION:
            raise RuntimeError("of ours")
        take(self, subject, signal, x)

    patch.setattr(Ledger, "take_soon", broken)


def fails_in_backward(patch: pytest.MonkeyPatch) -> None:
    take = Ledger.take_soon

    def broken(self: Ledger, subject: Any, signal: Signal, x: Tensor) -> None:
        if signal is Signal.ACTIVATION_GRADIENT:
            raise RuntimeError("of ours")
        take(self, subject, signal, x)

    patch.setattr(Ledger, "take_soon", broken)


def fails(owner: type, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("of ours")

    return lambda patch: patch.setattr(owner, name, broken)


FAULTS = {
    "a forward hook": fails_in_hooks,
    "a backward hook": fails_in_backward,
    "adding up": fails(Ledger, "commit"),
    "reading gradients": fails(Parameters, "gradient_norms"),
    "agreeing": fails(Ledger, "agree"),
    "closing a window": fails(Ledger, "merged"),
    "sampling parameters": fails(Parameters, "norms"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_ours_switches_us_off(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch)
    model, health = Learner(Functional()), make_health()
    before, trainer = traces(model), make_trainer(health, max_epochs=2)
    message = our_warning(lambda: trainer.fit(model, make_data()))
    assert "of ours" in message
    assert trainer.global_step == 8
    assert traces(model) == before


def test_a_fault_in_a_measure_leaves_the_others() -> None:
    from lightning_neurohealth.measures.on_rate import OnRate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnRate, "compute", lambda self, activation: 1 / 0)
        health = fit(MLP())
    assert "on_rate" not in health.report["net.fc1"]
    assert "zero_rate" in health.report["net.fc1"]
    assert "division by zero" in health.report.coverage.missed["on_rate"]


def test_removing_twice_is_harmless() -> None:
    net = MLP()
    monitor, _ = watch_step(net, torch.ones(2, 4))
    before = traces(net)
    monitor.remove()
    assert traces(net) == before
