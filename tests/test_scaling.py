"""What a window costs does not grow with the number of ranks, nor a run with the number of its steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_neurohealth import Monitor, ranks

RANKS = 10_000
WIDTH = 4


@pytest.fixture
def thousands(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """As many ranks, all of which see what this one sees; gives what each collective sends."""
    sent: list[Tensor] = []

    def all_reduce(tensor: Tensor, op: Any) -> None:
        sent.append(tensor.clone())
        if op == dist.ReduceOp.SUM:
            tensor.mul_(RANKS)

    def gather(*args: Any) -> None:
        pytest.fail("what every rank says was sent to every rank")

    monkeypatch.setattr(ranks, "world_size", lambda: RANKS)
    monkeypatch.setattr(ranks, "rank", lambda: 0)
    monkeypatch.setattr(dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    return sent


def windows(layers: int, count: int) -> list[Any]:
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(layers)])
    monitor = Monitor(net, every_n_steps=1, window=2)
    for _ in range(2 * count):
        with monitor:
            loss = net(torch.randn(6, WIDTH)).square().mean()
            loss.backward()
            monitor.record_loss(loss)
    monitor.remove()
    return monitor.reports


def test_ten_thousand_ranks_send_as_much_as_two(thousands: list[Tensor]) -> None:
    first, *_, last = windows(layers=3, count=3)
    assert float(last["0.0"]["activation_rows"]) == RANKS * 2 * 6
    assert torch.equal(first["0.0"]["on_rate"] <= 1, torch.ones(WIDTH, dtype=torch.bool))
    assert len(thousands) == 1 + 3 * 2  # the same layers everywhere; then a sum and a minimum a window


def test_bytes_grow_with_neurons_alone(thousands: list[Tensor]) -> None:
    sizes = []
    for layers in (2, 4, 6):
        thousands.clear()
        windows(layers, 3)
        sizes.append(sum(t.nbytes for t in thousands[-2:]))
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]
    assert (sizes[1] - sizes[0]) / (2 * WIDTH) < 1_400  # bytes a neuron, beside those of its layer and parameters


def test_what_is_the_same_has_one_digest_whatever_its_order(thousands: list[Tensor]) -> None:
    names = [f"layer {i}" for i in range(50)]
    said = [
        {"of": frozenset(order), 3: (1.0, None, float("nan")), "\udcff": {"b": 2, "a": 1}}
        for order in (names, names[::-1])
    ]
    said.append({"\udcff": {"a": 1, "b": 2}, "of": set(names), 3: [1.0, None, float("nan")]})
    for value in (*said, {**said[0], "of": names[1:]}):
        ranks.all_alike(value)
    digests = [float(sent[0]) for sent in thousands]
    assert digests[0] == digests[1] == digests[2] != digests[3]
    assert all(float(sent[0]) == -float(sent[1]) for sent in thousands)
