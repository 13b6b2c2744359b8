"""Where ranks share the weights (FSDP2) or the neurons (tensor parallelism), they report what one process would."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.utils.data import DataLoader

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from lightning_neurohealth.samples import Samples
from tests.ranks import BATCHES, COUNTS, OF_BATCHES, Save, all_numbers, doubled
from tests.test_resume import SaveAt
from tests.training import Learner, make_trainer

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:You're resuming from a checkpoint"),
]

TOGETHER = ("redundancy", "twin_distance", "effective_rank", "stable_rank")


class Net(nn.Module):
    """Of ``fc1`` the last neuron is dead; a norm follows ``fc2``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.fc1, self.act, self.fc2 = nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 5)
        self.norm, self.head = nn.LayerNorm(5), nn.Linear(5, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        with torch.no_grad():
            self.fc1.bias[-1] = -100.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.fc2(self.act(self.fc1(x)))))


class Attentive(nn.Module):
    """Four heads of two channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(12)
        self.q, self.k, self.v = (nn.Linear(4, width) for _ in range(3))
        self.out = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(0, (-1, 2))  # two words a text
        q, k, v = (of(x).unflatten(-1, (-1, 2)).transpose(1, 2) for of in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)).flatten(0, 1)


class Alone(Learner):
    """In one process, two batches as one; they follow from the step, wherever the run was cut."""

    build: type[nn.Module] = Net

    def __init__(self, hidden: int) -> None:
        super().__init__(self.build(hidden).double(), lr=0.01)

    def batches(self) -> list[Any]:
        return doubled(BATCHES)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches(), batch_size=None)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        batches = self.batches()
        return super().training_step(batches[self.trainer.global_step % len(batches)], batch_idx)


class FullySharded(Alone):
    """Each rank has a part of every weight, and every second batch."""

    def configure_model(self) -> None:
        mesh = self.device_mesh["data_parallel"]
        for part in (self.net.fc1, self.net.fc2, self.net):
            fully_shard(part, mesh=mesh)

    def batches(self) -> list[Any]:
        return BATCHES[self.trainer.global_rank :: self.trainer.world_size]


class TensorParallel(Alone):
    """Each rank has half of the neurons of ``fc1``, and all batches."""

    def configure_model(self) -> None:
        plan = {"fc1": ColwiseParallel(), "fc2": RowwiseParallel()}
        parallelize_module(self.net, self.device_mesh["tensor_parallel"], plan)


class AloneAttentive(Alone):
    build = Attentive


class ParallelAttentive(AloneAttentive):
    """Each rank has half of the heads."""

    def configure_model(self) -> None:
        plan = {**dict.fromkeys("qkv", ColwiseParallel()), "out": RowwiseParallel()}
        parallelize_module(self.net, self.device_mesh["tensor_parallel"], plan)


def on_rank(rank: int, kind: type[Alone], hidden: int, port: int, run: Callable[[Alone, Any], None]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    data, tensor = (2, 1) if kind is FullySharded else (1, 2)
    strategy = ModelParallelStrategy(data, tensor, True, process_group_backend="gloo", timeout=timedelta(seconds=30))
    run(kind(hidden), {"devices": 2, "use_distributed_sampler": False, "strategy": strategy})


def train(
    kind: type[Alone],
    folder: Path,
    hidden: int = 8,
    on_start: Callable[[], None] = lambda: None,
    save_at: int | None = None,
    ckpt_path: Path | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """What each rank has written."""
    folder.mkdir(exist_ok=True)

    def run(model: Alone, options: Any) -> None:
        on_start()
        health = NeuronHealth(**{"every_n_steps": 1, "sinks": [], "measures": "full", **settings})
        extra = [] if save_at is None else [SaveAt(save_at, folder / "cut.ckpt")]
        trainer = make_trainer(health, Save(health, folder), *extra, **{"max_epochs": 2, **options})
        trainer.fit(model, ckpt_path=ckpt_path)

    alone = kind in (Alone, AloneAttentive)
    if alone:
        run(kind(hidden), {})
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.start_processes(on_rank, (kind, hidden, port, run), nprocs=2, start_method="fork")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(1 if alone else 2)]


def check_equal(ours: dict[str, Tensor], expected: dict[str, Tensor], but: set[str]) -> None:
    assert expected.keys() - ours.keys() == {name for name in expected if name in but}
    for name in ours.keys() - {name for name in ours if name.split()[-1] in OF_BATCHES}:
        exact = name.split()[-1] in COUNTS
        torch.testing.assert_close(
            ours[name], expected[name], rtol=0 if exact else 1e-9, atol=0 if exact else 1e-13, msg=name, equal_nan=True
        )


@pytest.mark.parametrize(("kind", "hidden"), [(FullySharded, 7), (TensorParallel, 8)])
def test_numbers_are_those_of_one_process(kind: type[Alone], hidden: int, tmp_path: Path) -> None:
    """Seven neurons are four and three, and the one of the head is one and none."""
    rules = [DeadNeurons(rows=50, grace=0)]
    first, second = train(kind, tmp_path / "two", hidden, rules=rules)
    (alone,) = train(Alone, tmp_path / "one", hidden, rules=rules)
    assert first["reports"] == second["reports"]
    assert len(first["reports"]) == len(alone["reports"]) == 2
    together = TOGETHER if kind is TensorParallel else TOGETHER[:2]
    layers = ["net.fc1"] if kind is TensorParallel else ["net.fc1", "net.fc2", "net.head"]
    apart = {f"{layer} {measure}" for layer in layers for measure in together}
    apart |= {f"net.fc2 {measure}" for measure in TOGETHER[:2]}
    for index in range(2):
        ours, expected = all_numbers(first, index), all_numbers(alone, index)
        assert len(ours) > 100
        check_equal(ours, expected, apart)
        report, whole = first["reports"][index], alone["reports"][index]
        assert [(f["layer"], f["neurons"]) for f in report["findings"]] == [("net.fc1", [hidden - 1])]
        assert [f["message"] for f in report["findings"]] == [f["message"] for f in whole["findings"]]
        assert report["coverage"]["missed"].keys() - whole["coverage"]["missed"].keys() == set(together)
        assert report["coverage"]["parameters"] == whole["coverage"]["parameters"]


def test_heads_that_ranks_share(tmp_path: Path) -> None:
    settings = {"measures": ["on_rate", "activation_mean", "gradient_flow", "taylor", "activation_rows"], "rules": []}
    first, second = train(ParallelAttentive, tmp_path / "two", **settings)
    (alone,) = train(AloneAttentive, tmp_path / "one", **settings)
    assert first["reports"] == second["reports"]
    ours, expected = all_numbers(first), all_numbers(alone)
    assert ours["net.heads on_rate"].shape == (4,)
    check_equal(ours, expected, set())


@pytest.mark.parametrize("kind", [FullySharded, TensorParallel])
def test_collectives(kind: type[Alone], tmp_path: Path) -> None:
    """One more a measured step, and one more a window, than where no weights are split."""
    measures = ["update_ratio", "activation_mean", "activation_min", "activation_max", "weight_norm"]
    for saved in train(kind, tmp_path, measures=measures, window=2):
        assert len(saved["reports"]) == 4
        assert saved["calls"] == {"all_reduce": 1 + 8 + 4 * (1 + 3), "all_gather_object": 0, "others": 0}


@pytest.mark.parametrize("kind", [FullySharded, TensorParallel])
def test_collectives_with_the_elements_of_gradients(kind: type[Alone], tmp_path: Path) -> None:
    """One more a measured step again, for the least and the greatest."""
    measures = ["gradient_norm", "gradient_mean", "gradient_std", "gradient_min", "gradient_max"]
    for saved in train(kind, tmp_path, measures=measures, rules=[], window=2):
        assert saved["calls"]["all_reduce"] == 1 + 2 * 8 + 4 * (1 + 3)
        assert saved["calls"]["others"] == 0


class Spoiled(FullySharded):
    """Of a gradient one element on one rank is no number, and another one infinite."""

    def on_after_backward(self) -> None:
        if self.trainer.global_rank == 1:
            self.net.fc1.weight.grad.to_local()[0, 0] = torch.nan
            self.net.fc1.bias.grad.to_local()[0] = -torch.inf

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        for parameter in self.parameters():  # callbacks come first; the weights are to stay numbers
            parameter.grad.to_local().zero_()


def test_what_is_not_finite_on_one_rank_shows_on_all(tmp_path: Path) -> None:
    measures = ["gradient_norm", "gradient_mean", "gradient_std", "gradient_min", "gradient_max"]
    first, second = train(Spoiled, tmp_path, 7, measures=measures, rules=[])
    ours = all_numbers(first)
    assert json.dumps(first["reports"]) == json.dumps(second["reports"])
    for measure in measures:
        assert ours[f"net.fc1.weight {measure}"].isnan()
    assert ours["net.fc1.bias gradient_min"] == ours["net.fc1.bias gradient_mean"] == -torch.inf
    assert ours["net.fc1.bias gradient_max"].isfinite()


def breaks_on_rank_1(owner: type, name: str) -> Callable[[], None]:
    def patch() -> None:
        if os.environ["LOCAL_RANK"] == "1":
            setattr(owner, name, lambda *args, **kwargs: 1 / 0)  # in a child, which ends soon

    return patch


OF_PIECES = [
    *((Parameters, name) for name in ("gradient_norms", "gradient_elements", "norms")),
    (Samples, "norms"),
]


@pytest.mark.filterwarnings("ignore:NeuronHealth has failed")
@pytest.mark.parametrize(("owner", "name"), OF_PIECES)
def test_no_rank_waits_for_one_that_has_failed(owner: type, name: str, tmp_path: Path) -> None:
    first, second = train(FullySharded, tmp_path, on_start=breaks_on_rank_1(owner, name))
    assert len(first["reports"]) == 2
    assert first["reports"] == second["reports"]
    assert "failed on rank 1" in first["reports"][-1]["coverage"]["missed"]["*"]


@pytest.mark.parametrize("kind", [FullySharded, TensorParallel])
def test_resumed_in_the_middle_of_a_window(kind: type[Alone], tmp_path: Path) -> None:
    settings = {"window": 3, "rules": [], "measures": ["weight_norm", "update_ratio", "activation_mean", "on_rate"]}
    whole, _ = train(kind, tmp_path / "whole", save_at=5, **settings)
    first, second = train(kind, tmp_path / "cut", ckpt_path=tmp_path / "whole" / "cut.ckpt", **settings)
    assert first["reports"] == second["reports"]
    assert [r["index"] for r in first["reports"]] == [1, 2]
    for index in (-2, -1):
        check_equal(all_numbers(first, index), all_numbers(whole, index), set())
