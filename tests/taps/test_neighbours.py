"""The user's own hooks and modes, and other monitors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode, _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from lightning_neurohealth import Monitor
from tests.taps.networks import Functional
from tests.training import MLP, Learner, fit, make_data, watch_step


def test_users_own_hooks_still_run() -> None:
    net, calls = MLP(), []
    net.fc1.register_forward_hook(lambda m, i, o: calls.append("forward"))
    net.fc1.register_full_backward_hook(lambda m, i, o: calls.append("backward"))
    watch_step(net, torch.randn(10, 4, requires_grad=True))
    assert calls == ["forward", "backward"]


def test_users_function_mode_still_works() -> None:
    class Count(torch.overrides.TorchFunctionMode):
        calls = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls += func is F.gelu
            return func(*args, **(kwargs or {}))

    net = nn.Sequential(Functional(), nn.Linear(8, 1))
    with Count() as count:
        _, report = watch_step(net, torch.randn(10, 8))
    assert count.calls == 1
    assert report["0.fc1"].function == "gelu"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_monitors_end_in_either_order(order: tuple[int, int]) -> None:
    net, x = nn.Sequential(Functional(), nn.Linear(8, 1)), torch.randn(10, 8)
    monitors = [Monitor(net, every_n_steps=1), Monitor(net, every_n_steps=1)]
    for _ in range(2):
        for monitor in monitors:
            monitor.begin_step()
            monitor.begin_batch()
        net(x).sum().backward()
        monitors[order[0]].end_batch()
        (left,) = _get_current_function_mode_stack()
        assert left is monitors[order[1]].taps._functions
        with BaseTorchFunctionMode() as mode:
            monitors[order[1]].end_batch()
            assert _get_current_function_mode_stack() == [mode]
        assert not _get_current_function_mode_stack()
        for monitor in monitors:
            monitor.end_step()
    reports = [monitor.close() for monitor in monitors]
    assert [list(report) for report in reports] == [["0.fc1", "0.fc2", "1"]] * 2
    for measure in ("on_rate", "gradient_flow", "activation_rows"):
        torch.testing.assert_close(reports[0]["0.fc1"][measure], reports[1]["0.fc1"][measure])


class InMode(Learner):
    """Steps by hand, within a mode of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.automatic_optimization = False
        self.kept: list[bool] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        with torch.device("cpu"):
            (mode,) = (m for m in _get_current_function_mode_stack() if isinstance(m, DeviceContext))
            for _ in range(2):
                optimizer.zero_grad()
                self.manual_backward(super().training_step(batch, batch_idx))
                optimizer.step()
                self.kept.append(any(m is mode for m in _get_current_function_mode_stack()))


def test_users_mode_stays_around_a_manual_backward() -> None:
    model = InMode(nn.Sequential(Functional(), nn.Linear(8, 1)))
    fit(model, make_data(shape=(8,)), every_n_steps=2)
    assert model.kept == [True] * 8
    assert not _get_current_function_mode_stack()
