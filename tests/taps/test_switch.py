"""Hooks that are off leave a module as it would be without them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor


def hooks_of(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def test_only_measured_steps_have_hooks() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    monitor = Monitor(net, every_n_steps=3)
    on: list[bool] = []
    net[1].register_forward_hook(lambda *_: on.append(hooks_of(net) > 1))
    for _ in range(7):
        with monitor:
            net(torch.randn(5, 3)).sum().backward()
        assert hooks_of(net) == 1
    assert on == [True, False, False] * 2 + [True]
    monitor.remove()
    assert hooks_of(net) == 1


def test_hooks_of_others_keep_their_order_and_handles() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    said: list[str] = []

    def saying(name: str) -> Any:
        return lambda *_: said.append(name)

    first = net[1].register_forward_hook(saying("first"))
    monitor = Monitor(net, every_n_steps=1)
    net[1].register_forward_hook(saying("second"))
    for _ in range(2):
        with monitor:
            net(torch.randn(5, 3)).sum().backward()
    assert said == ["first", "second"] * 2
    first.remove()
    with monitor:
        net(torch.randn(5, 3)).sum().backward()
    assert said[4:] == ["second"]
    monitor.remove()


def test_what_a_later_hook_makes_of_an_activation_is_what_is_measured() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    monitor = Monitor(net, every_n_steps=1)

    def silence(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        return out * 0

    net[1].register_forward_hook(silence)
    for _ in range(3):
        with monitor:
            net(torch.randn(5, 3)).sum().backward()
    report = monitor.close()
    assert report is not None
    assert not report["0"]["on_rate"].any()
    monitor.remove()
