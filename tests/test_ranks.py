"""Two ranks report what one would with the same data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from tests.ranks import BATCHES, COUNTS, EXTREMES, OF_BATCHES, Every, all_numbers, doubled, train
from tests.training import MLP

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


@pytest.mark.parametrize("reference", ["one large batch", "two batches a step"])
def test_two_ranks_report_what_one_would(reference: str, tmp_path: Path) -> None:
    first, second = train(Every(MLP()), tmp_path / "two", max_epochs=2)
    whole = reference == "one large batch"
    batches, accumulate = (doubled(BATCHES), 1) if whole else (BATCHES, 2)
    (alone,) = train(Every(MLP(), batches), tmp_path / "one", 1, max_epochs=2, accumulate_grad_batches=accumulate)

    assert [r["steps"] for r in first["reports"]] == [r["steps"] for r in alone["reports"]] == [4, 4]
    for index in range(2):
        ours, expected = all_numbers(first, index), all_numbers(alone, index)
        assert list(ours) == list(expected)
        assert len(ours) > 50
        for name, value in expected.items():
            measure = name.split()[-1]
            if whole and measure in OF_BATCHES:
                continue
            exact = measure in COUNTS
            torch.testing.assert_close(
                ours[name], value, rtol=0 if exact else 1e-9, atol=0 if exact else 1e-14, msg=name, equal_nan=True
            )
    assert first["reports"] == second["reports"]


UNEVEN = [*BATCHES[:6], *(tuple(part[:rows] for part in BATCHES[6]) for rows in (8, 3, 1))]


@pytest.mark.parametrize("static", [False, True])
def test_three_ranks_with_uneven_last_batches(static: bool, tmp_path: Path) -> None:
    first, *others = train(Every(MLP(), UNEVEN), tmp_path / "three", 3, static=static)
    (alone,) = train(Every(MLP(), UNEVEN), tmp_path / "one", 1, accumulate_grad_batches=3)
    assert [saved["reports"] for saved in others] == [first["reports"]] * 2
    ours, expected = all_numbers(first), all_numbers(alone)
    assert float(expected["net.fc1 activation_rows"]) == 6 * 8 + 8 + 3 + 1
    assert list(ours) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-14, msg=name, equal_nan=True)


class Sick(MLP):
    """Half of its neurons are dead from the start, for the batches of all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        offset = torch.tensor([0.0, -100.0], dtype=x.dtype).repeat_interleave(4)
        return self.fc2(self.act(self.fc1(x) + offset))


def test_every_rank_finds_the_same(tmp_path: Path) -> None:
    first, second = train(Every(Sick()), tmp_path, rules=[DeadNeurons(rows=50, grace=0)], window=2)
    assert first["reports"] == second["reports"]
    assert [len(r["findings"]) for r in first["reports"]] == [0, 1]  # each window has 32 rows, of both ranks
    (finding,) = first["reports"][-1]["findings"]
    assert (finding["condition"], finding["layer"], finding["neurons"]) == ("dead_neurons", "net.fc1", [4, 5, 6, 7])
    assert "all of 64 rows" in finding["message"]


def test_windows_of_steps(tmp_path: Path) -> None:
    first, second = train(Every(MLP()), tmp_path / "two", window=3, max_epochs=2, every_n_steps=2)
    (alone,) = train(Every(MLP(), doubled(BATCHES)), tmp_path / "one", 1, window=3, max_epochs=2, every_n_steps=2)
    assert [r["steps"] for r in first["reports"]] == [3, 3, 2]
    assert first["reports"] == second["reports"]
    for index in range(3):
        ours, expected = all_numbers(first, index), all_numbers(alone, index)
        for measure in ("activation_rows", "on_rate", "activation_mean", "gradient_flow", "gradient_norm"):
            name = f"net.fc1 {measure}"
            torch.testing.assert_close(ours[name], expected[name], rtol=1e-9, atol=1e-14, msg=name)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.run, self.act, self.head = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.run(x)))


class Flat(Every):
    """Its layers have the shortest of names: ``run`` and ``head``."""

    def __init__(self) -> None:
        super().__init__(Named())
        self.run, self.act, self.head = self.net.run, self.net.act, self.net.head
        del self.net

    def forward(self, x: Tensor) -> Tensor:
        return Named.forward(self, x)


def test_layer_with_the_name_of_the_run(tmp_path: Path) -> None:
    first, second = train(Flat(), tmp_path)
    assert list(first["reports"][0]["layers"]) == ["run", "head"]
    assert len(first["reports"][0]["run"]["train_loss"]) == 4
    assert first["reports"] == second["reports"]


def deep(layers: int) -> nn.Module:
    return nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(layers - 1)], nn.Linear(4, 1))


@pytest.mark.parametrize("layers", [2, 12])
def test_collectives_do_not_grow_with_the_layers(layers: int, tmp_path: Path) -> None:
    for saved in train(Every(deep(layers)), tmp_path, window=1, measures=["activation_mean", *EXTREMES]):
        assert len(saved["reports"]) == 4
        assert len(saved["reports"][0]["layers"]) == layers
        # one for each of sum, minimum and maximum a window, and one that finds all ranks to know the same layers
        assert saved["calls"] == {"all_reduce": 1 + 4 * 3, "all_gather_object": 0, "others": 0}


def test_counting_of_collectives_sees_them(tmp_path: Path) -> None:
    (saved, _) = train(Every(MLP()), tmp_path, measures=["on_rate"])
    assert saved["calls"] == {"all_reduce": 2, "all_gather_object": 0, "others": 0}


def test_forked_processes_are_gone() -> None:
    """The tests above have not changed this process."""
    assert not dist.is_initialized()
    assert os.environ.get("LOCAL_RANK") in (None, "0")
