"""Modules that are replaced, added or rebuilt while the model trains."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from lightning_neurohealth import Monitor, NeuronHealth
from lightning_neurohealth.tracing.finder import LayerFinder
from tests.callback.numbers import rows
from tests.ranks import BATCHES, OF_BATCHES, Every, all_numbers, doubled, train
from tests.training import HOOKS, MLP, Learner, make_data, make_health, make_trainer

Change = Callable[[nn.Module], object]


class ChangeAt(Callback):
    """Changes the net at one step and lets the optimizer have what is new."""

    def __init__(self, step: int, change: Change) -> None:
        self.step, self.change = step, change

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            self.change(pl_module.net)
            (optimizer,) = trainer.optimizers
            optimizer.param_groups[0]["params"] = list(pl_module.parameters())


def fit_changing(step: int, change: Change, epochs: int = 2, **settings: Any) -> tuple[NeuronHealth, Learner]:
    """Two epochs of eight steps."""
    health, model = make_health(**settings), Learner(MLP())
    make_trainer(ChangeAt(step, change), health, max_epochs=epochs).fit(model, make_data(rows=64))
    return health, model


def wider(net: nn.Module) -> None:
    net.fc1, net.fc2 = nn.Linear(4, 16), nn.Linear(16, 1)


def other_head(net: nn.Module) -> None:
    net.fc2 = nn.Linear(8, 1)


def other_activation(net: nn.Module) -> None:
    net.act = nn.Tanh()


def hooks(module: nn.Module) -> list[Any]:
    return [getattr(m, kind) for m in module.modules() for kind in HOOKS if getattr(m, kind)]


def test_layers_of_another_width_are_watched_from_the_next_epoch_on() -> None:
    old: list[nn.Module] = []
    health, model = fit_changing(8, lambda net: (old.append(net.fc1), wider(net)), measures="full")
    first, second = health.reports
    assert (first["net.fc1"].neurons, second["net.fc1"].neurons) == (8, 16)
    assert (rows(first), rows(second)) == (64, 64)
    assert second["net.fc1"]["on_rate"].shape == (16,)
    assert (second["net.fc1"]["gradient_flow"] > 0).any()
    torch.testing.assert_close(
        second["net.fc1"]["weight_norm"], model.net.fc1.weight.detach().double().norm(dim=1), rtol=1e-5, atol=1e-6
    )
    assert second.coverage.unwatched == {}
    assert second.coverage.parameters == 1
    assert not [f for f in second.findings if f.condition == "no_gradient"]
    assert second.not_judged == first.not_judged
    assert hooks(old[0]) == hooks(model) == []


@pytest.mark.parametrize("change", [wider, other_head, other_activation], ids=lambda change: change.__name__)
def test_what_was_measured_of_them_in_the_same_window_before_is_left_out(change: Change) -> None:
    health, _ = fit_changing(3, change)
    first, second = health.reports
    kept = {wider: set(), other_head: {"net.fc1"}, other_activation: {"net.fc2"}}[change]
    assert {name: rows(first, name) for name in first} == {name: 64 if name in kept else 40 for name in first}
    assert rows(second) == 64
    assert ("parameters" in first.coverage.missed["*"]) == (change is not other_activation)
    assert (first.steps, first.measured) == (8, 5)
    assert len(first.run["train_loss"]) == 8
    assert "replaced at step 3" in first.coverage.missed["*"]
    assert "net.fc2" in first.coverage.missed["*"] or change is other_activation
    assert second.coverage.unwatched == {}
    assert first["net.fc1"].function == ("tanh" if change is other_activation else "relu")


def test_layers_that_stay_keep_what_was_measured() -> None:
    torch.manual_seed(0)
    net, batches = MLP().double(), torch.randn(6, 8, 4, dtype=torch.float64)
    monitor = Monitor(net, every_n_steps=1, window="epoch", measures="full")
    for step, x in enumerate(batches):
        if step == 3:
            net.fc2 = nn.Linear(8, 1).double()
        with monitor:
            net(x).mean().backward()
    report = monitor.close()
    monitor.remove()
    on = net.act(net.fc1(batches.flatten(0, 1))) > 0
    torch.testing.assert_close(report["fc1"]["on_rate"], on.double().mean(0))
    assert (float(report["fc1"]["activation_rows"]), float(report["fc2"]["activation_rows"])) == (48, 24)


class SwapAt(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2:
            other_activation(pl_module.net)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_two_ranks_keep_the_same(tmp_path: Path) -> None:
    first, second = train(Every(MLP()), tmp_path / "two", extra=[SwapAt()], max_epochs=2)
    (alone,) = train(Every(MLP(), doubled(BATCHES)), tmp_path / "one", 1, extra=[SwapAt()], max_epochs=2)
    assert first["reports"] == second["reports"]
    for index in (0, 1):
        ours, expected = all_numbers(first, index), all_numbers(alone, index)
        assert list(ours) == list(expected)
        for name in ours.keys() - {name for name in ours if name.split()[-1] in OF_BATCHES}:
            torch.testing.assert_close(ours[name], expected[name], rtol=1e-9, atol=1e-14, equal_nan=True, msg=name)
    seen = [report["layers"][name]["activation_rows"] for report in first["reports"] for name in ("net.fc1", "net.fc2")]
    assert seen == [16, 64, 64, 64]  # the step in which it was replaced is one of the old model


class ChangeAtTheEnd(ChangeAt):
    """Before the window of the first epoch closes."""

    def on_train_batch_start(self, *args: Any) -> None:
        pass

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_batch_start(trainer, pl_module, None, 0)


def test_a_change_between_the_last_step_of_a_window_and_its_end() -> None:
    health, model = make_health(), Learner(MLP())
    make_trainer(ChangeAtTheEnd(8, wider), health, max_epochs=3).fit(model, make_data(rows=64))
    assert [(report["net.fc1"].neurons, rows(report)) for report in health.reports] == [(8, 64), (16, 64), (16, 64)]
    assert not [f for report in health.reports for f in report.findings if f.condition == "no_gradient"]
    assert [report.coverage.unwatched for report in health.reports] == [{}] * 3


def test_the_next_measured_step_is_soon_enough() -> None:
    health, _ = fit_changing(3, wider, epochs=1, every_n_steps=5)
    (report,) = health.reports
    assert (report["net.fc1"].neurons, rows(report)) == (16, 8)


def test_a_new_parameter_in_an_old_module() -> None:
    def other_weight(net: nn.Module) -> None:
        net.fc1.weight = nn.Parameter(torch.randn(8, 4))

    health, model = fit_changing(8, other_weight)
    report = health.report
    assert not [f for f in report.findings if f.condition == "no_gradient"]
    assert float(report["net.fc1"]["gradient_norm"]) > 0
    torch.testing.assert_close(
        report["net.fc1"]["weight_norm"], model.net.fc1.weight.detach().double().norm(dim=1), rtol=1e-5, atol=1e-6
    )


def test_a_module_that_is_added() -> None:
    def deeper(net: nn.Module) -> None:
        net.act = nn.Sequential(nn.ReLU(), nn.Linear(8, 8), nn.Tanh())

    health, _ = fit_changing(8, deeper)
    assert list(health.reports[0]) == ["net.fc1", "net.fc2"]
    assert list(health.reports[1]) == ["net.fc1", "net.act.1", "net.fc2"]
    assert [layer.activation for layer in health.report.values()] == ["net.act.0", "net.act.2", None]


class Rebuilt(MLP):
    """Has another module in every forward."""

    def forward(self, x: Tensor) -> Tensor:
        self.act = nn.ReLU()
        return super().forward(x)


def test_a_model_that_is_never_the_same_says_so() -> None:
    health = make_health()
    make_trainer(health, max_epochs=3).fit(Learner(Rebuilt()), make_data(rows=64))
    assert [len(report) > 0 for report in health.reports] == [True] * 3
    assert any("all the time" in report.coverage.missed.get("*", "") for report in health.reports)
    assert rows(health.report, "net.fc2") == 64


class NewLoss(Learner):
    """Builds the module of its loss anew in every step."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.criterion = nn.MSELoss()
        return self.criterion(self(batch[0]), batch[1])


def test_a_module_that_is_no_part_of_a_layer_may_come_and_go() -> None:
    health = make_health()
    make_trainer(health).fit(NewLoss(MLP()), make_data(rows=64))
    assert rows(health.report) == 64
    assert health.report.coverage.unwatched == {}


def test_a_model_may_grow_many_times() -> None:
    class Grows(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            ChangeAt(trainer.global_step, wider).on_train_batch_start(trainer, pl_module, None, 0)

    health = make_health()
    make_trainer(Grows(), health, max_epochs=14).fit(Learner(MLP()), make_data())
    assert [rows(report) for report in health.reports] == [32] * 14
    assert health.report.coverage.unwatched == {}


def test_a_model_that_stays_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    init = LayerFinder.__init__
    monkeypatch.setattr(LayerFinder, "__init__", lambda self, *args: (made.append(self), init(self, *args))[1])
    make_trainer(make_health(), max_epochs=2).fit(Learner(MLP()), make_data())
    assert len(made) == 1


def test_a_hand_written_loop() -> None:
    net = MLP()
    monitor = Monitor(net, every_n_steps=1, window="epoch")
    for step in range(6):
        if step == 3:
            monitor.close()
            wider(net)
        with monitor:
            net(torch.randn(8, 4)).mean().backward()
    report = monitor.close()
    monitor.remove()
    assert (report["fc1"].neurons, float(report["fc1"]["activation_rows"])) == (16, 24)
    assert hooks(net) == []


def test_the_same_callback_twice_is_refused() -> None:
    health, model = make_health(), Learner(MLP())
    with pytest.raises(ValueError, match="NeuronHealth object is in callbacks twice"):
        make_trainer(health, health).fit(model, make_data())
    assert hooks(model) == []
