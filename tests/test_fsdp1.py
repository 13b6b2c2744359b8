"""FSDP1 under a Trainer: slices of flat parameters, of which the wrapper around the LightningModule holds some."""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from lightning_neurohealth import NeuronHealth
from tests.ranks import BATCHES, OF_BATCHES, Save, all_numbers
from tests.test_sharded import Alone
from tests.test_sharded import train as train_alone
from tests.training import make_trainer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


class OnCPU(FSDPStrategy):
    """Lightning asks for a GPU before it wraps; torch does not."""

    def __init__(self, policy: Any) -> None:
        super().__init__(process_group_backend="gloo", timeout=timedelta(seconds=30))
        self.policy = policy

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu")

    def _setup_model(self, model: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(
            model, device_id=torch.device("cpu"), use_orig_params=True, auto_wrap_policy=self.policy
        )


class Shared(Alone):
    """Each rank gets every second batch."""

    def batches(self) -> list[Any]:
        mine = BATCHES[self.trainer.global_rank :: self.trainer.world_size]
        return [tuple(part.float() for part in batch) for batch in mine]


def on_rank(rank: int, port: int, folder: Path, policy: Any) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    health = NeuronHealth(every_n_steps=1, sinks=[], measures="full")
    options = {"devices": 2, "use_distributed_sampler": False, "strategy": OnCPU(policy), "max_epochs": 2}
    make_trainer(health, Save(health, folder), **options).fit(Shared(7))


@pytest.mark.parametrize("policy", [None, ModuleWrapPolicy({nn.Linear})], ids=["whole", "by layer"])
def test_numbers_are_those_of_one_process(policy: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(on_rank, (port, tmp_path, policy), nprocs=2, start_method="fork")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    (alone,) = train_alone(Alone, tmp_path / "one", 7)
    assert first["reports"] == second["reports"]
    ours, expected = all_numbers(first), all_numbers(alone)
    hidden = {n for n, why in first["reports"][-1]["coverage"]["missed"].items() if why.startswith("FSDP1")}
    assert {name for name in expected.keys() - ours.keys() if name.split()[-1] not in hidden} == set()
    assert {
        "net.fc1 gradient_norm",
        "net.norm.weight gradient_norm",
        "net.norm.bias gradient_std",
        "run update_ratio",
    } <= ours.keys()
    for name in ours.keys() - {name for name in ours if name.split()[-1] in OF_BATCHES}:
        # FSDP trains in single precision
        torch.testing.assert_close(ours[name], expected[name], rtol=2e-3, atol=1e-5, equal_nan=True, msg=name)
