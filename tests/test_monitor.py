"""Monitor in a hand-written loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report
from lightning_neurohealth.signals import Signal
from tests.training import MLP, at_each_signal, make_data, traces


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return MLP()


def train(net: nn.Module, monitor: Monitor, steps: int) -> Iterator[int]:
    """The loop of the documentation."""
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for step, (x, y) in zip(range(steps), make_data(rows=8 * steps), strict=True):
        optimizer.zero_grad()
        with monitor:
            loss = F.mse_loss(net(x), y)
            loss.backward()
            monitor.record_loss(loss)
        optimizer.step()
        yield step


def test_a_hand_written_loop(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=2)
    for _ in train(net, monitor, 5):
        assert monitor.report is None
    report = monitor.close()
    assert report is monitor.report
    assert monitor.reports == [report]
    assert (report.index, report.steps, report.measured, report.step) == (0, 5, 3, 5)
    assert float(report["fc1"]["activation_rows"]) == 24
    assert len(report.run["train_loss"]) == 5  # the loss is cheap: every step has one
    assert (report["fc1"]["gradient_flow"] > 0).any()
    assert report["fc1"]["gradient_norm"] > 0
    assert "fc1" in str(report)


def test_a_window_closes_by_itself(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=1, window=3)
    seen = [len(monitor.reports) for _ in train(net, monitor, 7)]
    assert seen == [0, 0, 1, 1, 1, 2, 2]
    assert monitor.window_steps == 1
    assert [r.steps for r in monitor.reports] == [3, 3]
    assert monitor.close(last=True).last
    assert [r.steps for r in monitor.reports] == [3, 3, 1]
    assert [r.previous for r in monitor.reports] == [None, *monitor.reports[:-1]]


def test_window_of_an_epoch_is_left_to_close(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=1, window="epoch")
    for _ in train(net, monitor, 20):
        pass
    assert monitor.reports == []
    report = monitor.close(epoch=4, step=123, learning_rate=0.05)
    assert (report.epoch, report.step, report.steps) == (4, 123, 20)


def test_closing_without_a_measured_step_reports_nothing(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=3)
    assert monitor.close() is None
    loop = train(net, monitor, 4)
    next(loop)
    assert monitor.close().steps == 1
    next(loop)
    assert monitor.close() is None  # the second step was not measured, and goes into the next window
    next(loop), next(loop)
    assert (monitor.close().steps, monitor.report.measured) == (3, 1)


def test_numbers_begin_anew_in_each_window(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=1, measures="full")
    x = torch.randn(10, 4)

    def measured(rows: Tensor) -> Any:
        with monitor:
            net(rows)
        return monitor.close()["fc1"]

    first, second = measured(x), measured(-2 * x)
    a = torch.relu(net.fc1(-2 * x)).double()
    assert float(first["activation_rows"]) == float(second["activation_rows"]) == 10
    torch.testing.assert_close(second["activation_mean"], a.mean(0))
    torch.testing.assert_close(second["activation_max"], a.amax(0))
    torch.testing.assert_close(second["activation_min"], a.amin(0))


def test_gradient_flow_outlives_a_window_and_fades(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=1, window=1)
    x = torch.randn(10, 4)
    for factor in (1.0, 0.0):
        with monitor:
            (factor * net(x).sum()).backward()
    before, after = (report["fc2"]["gradient_flow"] for report in monitor.reports)
    torch.testing.assert_close(before, torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(after, torch.full((1,), 0.9 / 1.9, dtype=torch.float64))


def test_remove(net: nn.Module) -> None:
    before = traces(net)
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        assert traces(net) != before
        net(torch.randn(8, 4)).sum().backward()
    for _ in train(net, monitor, 1):
        pass
    monitor.remove()
    monitor.remove()
    assert traces(net) == before
    report = monitor.close()  # what was seen before still counts
    assert float(report["fc1"]["activation_rows"]) == 16


def test_exception_in_a_step_is_forgotten(net: nn.Module) -> None:
    before = traces(net)
    monitor = Monitor(net, every_n_steps=1)
    x = torch.randn(10, 4)
    with monitor:
        net(x).sum().backward()
    net(100 * x)  # outside, and so not measured either
    with pytest.raises(ZeroDivisionError), monitor:
        (net(100 * x).sum() / (1 // 0)).backward()
    with monitor:
        net(x).sum().backward()
    monitor.remove()
    assert traces(net) == before
    report = monitor.close()
    assert float(report["fc1"]["activation_rows"]) == 20
    torch.testing.assert_close(report["fc1"]["preactivation_mean"], net.fc1(x).double().mean(0))


def test_exception_in_the_forward_of_a_module(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=1)
    with pytest.raises(RuntimeError, match="shapes"), monitor:
        net(torch.randn(10, 3))
    with monitor:
        net(torch.randn(10, 4)).sum().backward()
    monitor.remove()
    report = monitor.close()
    assert [(layer.name, layer.activation) for layer in report.values()] == [("fc1", "act"), ("fc2", None)]


def test_a_call_outside_of_a_step_is_not_measured(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=1)
    x = torch.randn(10, 4)
    net(x).sum().backward()
    with monitor:
        net(x).sum().backward()
    net(x).sum().backward()
    with torch.no_grad():
        net(x)
    assert float(monitor.close()["fc1"]["activation_rows"]) == 10


def test_idle_steps_take_nothing_but_the_loss(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor(net, every_n_steps=4)
    taken: list[tuple[int, Signal]] = []

    at_each_signal(monkeypatch, lambda step, signal: taken.append((step, signal)))
    idle = [traces(net)["modes"] for _ in train(net, monitor, 6)]
    assert idle == [[]] * 6
    assert {step for step, signal in taken if signal is not Signal.LOSS} == {0, 4}


def test_two_monitors_of_one_model_agree(net: nn.Module) -> None:
    a, b = Monitor(net, every_n_steps=1), Monitor(net, every_n_steps=1)
    with a, b:
        torch.tanh(net(torch.randn(10, 4))).sum().backward()
    assert a.close().to_dict() == b.close().to_dict()
    for name, layer in a.report.items():
        for measure, value in layer.items():
            torch.testing.assert_close(b.report[name][measure], value, rtol=0, atol=0, equal_nan=True)


def test_many_steps_keep_the_loss_bounded(net: nn.Module) -> None:
    monitor = Monitor(net, every_n_steps=10_000)
    for step in range(1100):
        monitor.begin_step()
        monitor.record_loss(torch.tensor(float(step)))
        monitor.end_step()
    points = monitor.close().run["train_loss"]
    assert len(points) <= 512
    assert points[:2].tolist() == [1.5, 5.5]  # each point stands for four steps
    assert float(points.mean()) == pytest.approx(1099 / 2, rel=1e-3)


# Losses that are none


def one_step(*losses: Any, validation: bool = False) -> Report:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    monitor = Monitor(net, every_n_steps=1)
    for _ in range(3):
        with monitor:
            net(torch.ones(5, 3)).sum().backward()
            for loss in losses:
                monitor.record_loss(loss)
    if validation:
        monitor.record_validation_loss(0.5)
    report = monitor.close()
    monitor.remove()
    assert report is not None
    return report


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (torch.ones(5), "it was a tensor of shape (5,)"),
        ({"loss": torch.ones(())}, "it was a dict"),
        (None, "it was a NoneType"),
        (torch.ones((), dtype=torch.complex64), "complex64"),
    ],
    ids=["vector", "mapping", "nothing", "complex"],
)
def test_a_loss_that_is_no_number_is_listed_and_the_rest_goes_on(loss: Any, said: str) -> None:
    report = one_step(loss)
    assert said in report.coverage.missed["train_loss"]
    assert report.run["train_loss"].numel() == 0
    assert "on_rate" in report["0"]


def test_a_loss_that_was_never_recorded_is_listed() -> None:
    assert "none was seen" in one_step().coverage.missed["train_loss"]


@pytest.mark.parametrize("loss", [torch.tensor(2.0), torch.full((1, 1), 2.0), torch.tensor(2), 2.0, 2])
def test_one_number_in_any_form_is_a_loss(loss: Any) -> None:
    report = one_step(loss)
    assert report.run["train_loss"].tolist() == [2.0] * 3
    assert "train_loss" not in report.coverage.missed


def test_a_missing_validation_loss_is_listed_until_there_is_one() -> None:
    assert "no validation loss was logged" in one_step(1.0).coverage.missed["validation_history"]
    assert "validation_history" not in one_step(1.0, validation=True).coverage.missed


def test_what_is_missing_beside_layers_is_not_called_unwatched() -> None:
    report = one_step()
    assert report.coverage.unwatched == {}
    assert "not watched" not in str(report)
