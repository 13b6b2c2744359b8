"""A measured step never waits for the device: neither for a number on the host, nor to learn how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_neurohealth import Monitor
from lightning_neurohealth.statistics.rows import Rows

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
"""What needs the numbers of a tensor before it can go on."""


class WaitedError(AssertionError):
    """Something of ours did."""


class NoWaiting(TorchDispatchMode):
    """Refuses them; and an index of truth values, which is made of places first."""

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        chosen = args[1] if func in (aten.index.Tensor, aten.index_put_.default) else ()
        if func in WAITING or any(isinstance(t, Tensor) and t.dtype == torch.bool for t in chosen):
            raise WaitedError(func)
        return func(*args, **(kwargs or {}))


def _waits(x: Tensor) -> None:
    raise WaitedError


@contextmanager
def as_on_an_accelerator(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """On the CPU, where nobody has to wait, our code looks whether all is finite; elsewhere it does not."""
    patch.setattr(Rows, "is_finite", False)
    for name in ("tolist", "numpy", "cpu"):  # which nothing dispatches here
        patch.setattr(Tensor, name, _waits)
    with NoWaiting():
        yield


class Net(nn.Module):
    """A convolution with its norm, a functional activation, a gate, a recurrent layer and a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.up, self.gate, self.down = nn.Linear(36, 12), nn.Linear(36, 12), nn.Linear(12, 12)
        self.rnn, self.head = nn.GRU(12, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.relu(self.norm(self.conv(x))).flatten(2)
        gated = self.down(F.silu(self.gate(rows)) * self.up(rows))
        return self.head(self.rnn(gated)[0][:, -1])


def step(net: nn.Module, monitor: Monitor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    with monitor:
        loss = F.cross_entropy(net(torch.randn(5, 3, 8, 8)), torch.randint(4, (5,)))
        loss.backward()
        monitor.record_loss(loss)
    optimizer.step()


@pytest.mark.parametrize("measures", ["economy", "standard", "full"])
def test_no_step_waits(measures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = Net()
    monitor = Monitor(net, every_n_steps=2, window="epoch", measures=measures, fused=False)  # in C there is no device
    optimizer = torch.optim.SGD(net.parameters(), 1e-2, momentum=0.9)
    step(net, monitor, optimizer)  # the first finds the layers, and reads their weights
    with as_on_an_accelerator(monkeypatch):
        for _ in range(6):
            step(net, monitor, optimizer)
    monkeypatch.undo()
    assert monitor.failure is None
    report = monitor.close()
    assert report is not None
    assert report["conv"]["on_rate"].shape == (8,)
    monitor.remove()


def test_this_test_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    with as_on_an_accelerator(monkeypatch):
        for waits in (lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0], lambda x: x.tolist()):
            with pytest.raises(WaitedError):
                waits(torch.ones(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_cuda_sees_no_step_wait() -> None:
    net = Net().cuda()
    monitor = Monitor(net, every_n_steps=1, window="epoch")
    x, y = torch.randn(5, 3, 8, 8, device="cuda"), torch.randint(4, (5,), device="cuda")
    for number in range(4):
        torch.cuda.set_sync_debug_mode("error" if number else "default")
        try:
            with monitor:
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                monitor.record_loss(loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert monitor.failure is None
    assert monitor.close() is not None
    monitor.remove()
