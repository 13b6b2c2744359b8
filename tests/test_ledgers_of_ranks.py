"""Ledgers of two ranks merge, by themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.signals import Signal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")

LAYERS = [Layer("a", 3, -1, torch.device("cpu")), Layer("b", 2, -1, torch.device("cpu"))]
MEASURES = [all_measures()[name] for name in ("activation_mean", "activation_std", "activation_min", "activation_max")]


def rows_of(rank: int, layer: Layer) -> Tensor:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(5 + rank, layer.neurons, 1, generator=generator, dtype=torch.float64)


def ledger_on(rank: int, folder: str) -> None:
    """Rank 1 never sees layer b."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        ledger = Ledger(MEASURES)
        for layer in LAYERS[: 2 - rank]:
            ledger.take(layer, Signal.ACTIVATION, rows_of(rank, layer))
        ledger.commit()
        ledger.agree()
        twins, _ = ledger.merged()
        found = {
            layer.name: {
                f"{type(s).__name__} {state}": getattr(s, state).tolist()
                for s in book[Signal.ACTIVATION]
                for state in s.kinds
            }
            for layer, book in twins.items()
        }
        Path(folder, f"{rank}.json").write_text(json.dumps(found))
    finally:
        dist.destroy_process_group()


def test_ledgers_of_two_ranks_merge(tmp_path: Path) -> None:
    mp.start_processes(ledger_on, (str(tmp_path),), nprocs=2, start_method="fork")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert list(first) == ["a", "b"]
    both = torch.cat([rows_of(0, LAYERS[0]), rows_of(1, LAYERS[0])]).squeeze(-1)
    alone = rows_of(0, LAYERS[1]).squeeze(-1)
    for name, rows in (("a", both), ("b", alone)):
        states = {state: torch.tensor(value, dtype=torch.float64) for state, value in first[name].items()}
        assert float(states["Moments rows"]) == len(rows)
        torch.testing.assert_close(states["Moments sums"], rows.sum(0), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(states["Moments squares"], rows.square().sum(0), rtol=1e-12, atol=1e-14)
        assert torch.equal(states["Extremes lowest"], rows.amin(0))
        assert torch.equal(states["Extremes highest"], rows.amax(0))
