"""Ranks that do not see the same report the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch import Tensor, nn

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.signals import Signal
from tests.callback.test_changing_models import Growing
from tests.ranks import EXTREMES, Every, train
from tests.training import MLP, at_each_signal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


class Branching(nn.Module):
    """``side`` is in the middle of the net; who calls it, and with what rows, is up to ``rows``."""

    def __init__(self, rows: Callable[[int, int, Tensor], Tensor | None]) -> None:
        super().__init__()
        self.fc, self.side, self.act, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1)
        self.rows, self.calls = rows, 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        rank = dist.get_rank() if dist.is_initialized() else 0
        chosen = self.rows(rank, self.calls, x)
        self.calls += 1
        if chosen is not None:
            x = x + self.act(self.side(chosen)).sum(0)
        return self.head(x)


def never_on_rank_1(rank: int, call: int, x: Tensor) -> Tensor | None:
    return x if rank == 0 else None


def never_on_rank_0(rank: int, call: int, x: Tensor) -> Tensor | None:
    return x if rank == 1 else None


def no_rows_on_rank_1(rank: int, call: int, x: Tensor) -> Tensor | None:
    return x if rank == 0 else x[:0]


def late_on_rank_1(rank: int, call: int, x: Tensor) -> Tensor | None:
    return x if rank == 0 or call >= 1 else None


def late_on_both(rank: int, call: int, x: Tensor) -> Tensor | None:
    return x if call >= 1 else None


def rows_late_on_rank_1(rank: int, call: int, x: Tensor) -> Tensor | None:
    return x if rank == 0 or call >= 1 else x[:0]


@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        (never_on_rank_1, [32, 32]),
        (never_on_rank_0, [32, 32]),
        (no_rows_on_rank_1, [32, 32]),
        (rows_late_on_rank_1, [56, 64]),
        (late_on_rank_1, [56, 64]),
        (late_on_both, [48, 64]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_layer_that_not_every_rank_calls(rows: Any, seen: list[int], tmp_path: Path) -> None:
    first, second = train(Every(Branching(rows)), tmp_path, max_epochs=2, unused=True)
    for saved in (first, second):
        for report, expected in zip(saved["reports"], seen, strict=True):
            assert list(report["layers"]) == ["net.fc", "net.side", "net.head"]  # the order of execution
            assert report["layers"]["net.fc"]["activation_rows"] == 64
            assert report["layers"]["net.side"]["activation_rows"] == expected
    assert first["reports"] == second["reports"]


def test_layer_that_gets_an_activation_later(tmp_path: Path) -> None:
    first, second = train(Every(Growing()), tmp_path, max_epochs=2)
    assert list(first["reports"][-1]["layers"]) == ["net.fc", "net.head"]
    assert first["reports"][-1]["layers"]["net.fc"]["activation_rows"] == 64
    assert "slope" in first["reports"][-1]["layers"]["net.fc"]
    assert first["reports"] == second["reports"]


def never_then_on_rank_1(rank: int, call: int, x: Tensor) -> Tensor | None:
    return x if rank == 1 and call >= 5 else None  # in the second step of the second window


def test_newcomers_cost_one_more_exchange(tmp_path: Path) -> None:
    model = Every(Branching(never_then_on_rank_1))
    first, second = train(model, tmp_path, max_epochs=3, unused=True, measures=["activation_mean", *EXTREMES])
    assert [list(report["layers"]) for report in first["reports"]] == [
        ["net.fc", "net.head"],
        ["net.fc", "net.side", "net.head"],
        ["net.fc", "net.side", "net.head"],
    ]
    assert [r["coverage"]["missed"] for r in first["reports"]] == [{"net.side": "never called"}, {}, {}]
    assert first == second
    assert first["calls"] == {"all_reduce": 2 + 3 * 3 + 3, "all_gather_object": 1, "others": 0}


class Widening(nn.Module):
    """On rank 1, and there from the second step on, ``side`` is called with rows of another width."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.head, self.calls = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        odd = dist.is_initialized() and dist.get_rank() == 1 and self.calls > 1
        return self.head(self.fc(x)) + (self.act(x[:, :2] if odd else x)).sum()


def test_what_one_rank_could_not_see_all_report(tmp_path: Path) -> None:
    first, second = train(Every(Widening()), tmp_path, max_epochs=2)
    assert first["reports"] == second["reports"]
    for report in first["reports"]:
        assert "changes its width" in report["coverage"]["missed"]["net.act"]


class FailsOnRank1(Every):
    """Our hooks raise on one rank in the third step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_rank == 1 and batch_idx == 2:

            def broken(step: int, signal: Signal) -> None:
                if signal is Signal.ACTIVATION:
                    raise RuntimeError("of ours")

            at_each_signal(pytest.MonkeyPatch(), broken)  # in a child, which ends soon
        return super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:NeuronHealth has failed")
def test_a_fault_of_ours_on_one_rank_does_not_stop_the_others(tmp_path: Path) -> None:
    first, second = train(FailsOnRank1(MLP()), tmp_path, max_epochs=3)
    assert len(first["reports"]) == len(second["reports"]) == 3
    assert first["reports"] == second["reports"]
    assert first["reports"][0]["layers"]["net.fc1"]["activation_rows"] == 6 * 8
    assert "failed on rank 1" in first["reports"][-1]["coverage"]["missed"]["*"]


class BrokenOnRank1(Every):
    """One of our rooms raises on one rank, from the third step on."""

    def __init__(self, owner: type, name: str) -> None:
        super().__init__(MLP())
        self.owner, self.name = owner, name

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_rank == 1 and batch_idx == 2:
            setattr(self.owner, self.name, lambda *args, **kwargs: 1 / 0)  # in a child, which ends soon
        return super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:NeuronHealth has failed")
@pytest.mark.parametrize("window", [2, "epoch"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [(Ledger, "commit"), (Ledger, "fade"), (Parameters, "gradient_norms"), (Parameters, "norms")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_no_rank_waits_for_one_that_has_failed(owner: type, name: str, window: Any, tmp_path: Path) -> None:
    first, second = train(BrokenOnRank1(owner, name), tmp_path, max_epochs=3, window=window)
    assert len(first["reports"]) == (3 if window == "epoch" else 6)
    assert first["reports"] == second["reports"]
