"""Whatever ends a rank: nobody waits for it in a collective of ours, and what the others know is written."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from lightning_neurohealth import Severity
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.sinks import Files
from tests.broken_ranks import last_in_files, train_broken
from tests.training import MLP, Learner, make_data, make_health, make_trainer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")

BOTH = (0, 1)


def raise_error() -> None:
    raise ValueError("of the user")


def die() -> None:
    os._exit(3)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Broken(Learner):
    """``ends`` happens on some ranks in the second step of the second window."""

    def __init__(self, ends: Callable[[], None], ranks: tuple[int, ...]) -> None:
        torch.manual_seed(0)
        super().__init__(MLP())
        self.ends, self.ranks = ends, ranks

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_step == 5 and self.trainer.global_rank in self.ranks:
            self.ends()
        return super().training_step(batch, batch_idx)


def is_ours(error: str | None) -> bool:
    return error is not None and "neurohealth" in error.lower()


@pytest.mark.parametrize("rank", BOTH)
def test_a_rank_that_raises(rank: int, tmp_path: Path) -> None:
    outcome = train_broken(lambda: Broken(raise_error, (rank,)), tmp_path, settings={"window": 4})
    assert outcome.codes == [0, 0]
    assert outcome.ranks[rank]["error"] == "ValueError: of the user"
    for told in outcome.ranks.values():
        assert told["error"]
        assert not is_ours(told["error"])
        assert told["clean"]
        assert told["spoken"] == told["warnings"] == []
        assert [r["steps"] for r in told["reports"]] == [4, 1]
    assert (outcome.files["index"], outcome.files["steps"]) == (1, 1)
    assert "other ranks" in outcome.files["coverage"]["missed"]["*"]


@pytest.mark.parametrize("rank", BOTH)
def test_a_rank_that_dies(rank: int, tmp_path: Path) -> None:
    outcome = train_broken(lambda: Broken(die, (rank,)), tmp_path, settings={"window": 4})
    assert sorted(outcome.codes) == [0, 3]
    (told,) = outcome.ranks.values()
    assert not is_ours(told["error"])
    assert told["clean"]
    assert told["spoken"] == told["warnings"] == []
    assert [r["steps"] for r in told["reports"]] == [4, 1]
    assert outcome.files["index"] == rank  # rank 0 has written the first window, and lived to write the second


@pytest.mark.parametrize("ranks", [BOTH, (0,), (1,)])
def test_ranks_that_are_told_to_end(ranks: tuple[int, ...], tmp_path: Path) -> None:
    """Lightning asks the other rank at once, which may be busy, and gives up after the time of a collective."""
    model = lambda: Broken(terminate, ranks)  # noqa: E731
    outcome = train_broken(model, tmp_path, settings={"window": 4}, patience=3 if len(ranks) == 1 else 60)
    assert outcome.codes == [0, 0]
    for told in outcome.ranks.values():
        assert told["error"]
        assert not is_ours(told["error"])
        assert told["clean"]
        assert told["spoken"] == []
    assert all("SIGTERM" in told["error"] for told in outcome.ranks.values()) == (len(ranks) == 2)
    assert (outcome.files["index"], outcome.files["steps"]) == (1, len(ranks))


class Leaves(Callback):
    """Rank 1 is gone when the first epoch ends, and rank 0 waits for it in ours."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_rank == 1:
            die()


def test_a_rank_that_dies_while_ours_waits_for_it(tmp_path: Path) -> None:
    outcome = train_broken(lambda: Broken(die, ()), tmp_path, before=[Leaves()], max_epochs=2)
    assert outcome.codes == [0, 3]
    told = outcome.ranks[0]
    assert not is_ours(told["error"])
    assert told["clean"]
    assert told["spoken"] == []
    assert (outcome.files["index"], outcome.files["steps"]) == (0, 8)


class Logs(Callback):
    """Logs what Lightning sums over ranks when somebody asks for it, and raises on rank 1."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("sum", torch.tensor(1.0), sync_dist=True, reduce_fx="sum")
        if trainer.global_rank == 1:
            raise_error()


def test_a_rank_that_raises_asks_for_no_sum_of_the_users(tmp_path: Path) -> None:
    outcome = train_broken(lambda: Broken(die, ()), tmp_path, before=[Logs()])
    assert outcome.codes == [0, 0]
    assert outcome.ranks[1]["error"] == "ValueError: of the user"
    assert outcome.ranks[1]["spoken"] == []
    assert [r["steps"] for r in outcome.ranks[1]["reports"]] == [8]


# What we end


@dataclass(frozen=True, kw_only=True)
class Alarm(RunRule):
    """CRITICAL at the end of the second window."""

    windows: int = 1
    grace: int = 0

    def judge(self, window: Any, train_loss: Tensor) -> list[Verdict]:
        bad = [Verdict(Severity.CRITICAL, 1.0, 0.5, "it is bad", "a test", "none", immediate=True)]
        return bad if window.index == 1 else []


@pytest.mark.parametrize("window", [3, "epoch"])
@pytest.mark.parametrize("on_critical", ["stop", "raise"])
def test_on_critical_is_the_same_on_all_ranks(on_critical: Any, window: Any, tmp_path: Path) -> None:
    settings = {"on_critical": on_critical, "rules": [Alarm()], "window": window}
    outcome = train_broken(lambda: Broken(die, ()), tmp_path, settings=settings, max_epochs=6)
    assert outcome.codes == [0, 0]
    steps = 6 if window == 3 else 16
    for told in outcome.ranks.values():
        assert (told["error"] is None) == (on_critical == "stop")
        assert told["error"] is None or "CriticalFindingError" in told["error"]
        assert (told["step"], told["clean"], told["spoken"], told["warnings"]) == (steps, True, [], [])
    assert outcome.files["index"] == 1


# Processes that Lightning starts, of which no callback hears


@pytest.mark.parametrize("rank", BOTH)
@pytest.mark.parametrize(("ends", "error"), [(raise_error, ProcessRaisedException), (die, ProcessExitedException)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forked_ranks(ends: Callable[[], None], error: type[Exception], rank: int, tmp_path: Path) -> None:
    health = make_health(sinks=[Files()], window=4)
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=20))
    trainer = make_trainer(health, devices=2, strategy=strategy, logger=CSVLogger(tmp_path))
    with pytest.raises(error) as raised:
        trainer.fit(Broken(ends, (rank,)), make_data(rows=64, batch=4))
    assert not is_ours(str(raised.value).splitlines()[-1])
    written = last_in_files(tmp_path)
    assert (written["index"], written["steps"]) == ((0, 4) if (ends, rank) == (die, 0) else (1, 1))
