"""Two ranks report what one would with the same data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from lightning_neurohealth.signals import Signal
from tests.callback.test_changing_models import Growing
from tests.training import MLP, Learner, make_data, make_health, make_trainer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")

Batch = tuple[Tensor, ...]
BATCHES = [tuple(batch) for batch in make_data(rows=64, batch=8, dtype=torch.float64)]


def doubled(batches: list[Batch]) -> list[Batch]:
    """Each two batches as one."""
    return [
        tuple(torch.cat(pair) for pair in zip(*two, strict=True))
        for two in zip(batches[::2], batches[1::2], strict=True)
    ]


class Every(Learner):
    """Each rank trains on every n-th batch; the weights stay where they are, so that steps can be compared."""

    def __init__(self, net: nn.Module, batches: list[Batch] = BATCHES) -> None:
        torch.manual_seed(11)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.5)
        super().__init__(net.double(), lr=0.0)
        self.batches = batches

    def train_dataloader(self) -> DataLoader:
        mine = self.batches[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(mine, batch_size=None)


class Save(Callback):
    """Writes what this rank knows, and how often it has spoken to the others, to a file: a child's memory is lost."""

    def __init__(self, health: NeuronHealth, folder: Path) -> None:
        self.health, self.folder = health, folder
        self.calls = {"all_reduce": 0, "all_gather_object": 0, "others": 0}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if trainer.world_size > 1:  # in a child, which ends soon
            for name in dist.distributed_c10d.__all__:
                function = getattr(dist, name, None)
                if name.startswith(("all_", "broadcast", "gather", "reduce", "scatter", "barrier")) and callable(
                    function
                ):
                    setattr(dist, name, self.counted(name, function))

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_globals["__name__"].startswith("lightning_neurohealth"):
                self.calls[name if name in self.calls else "others"] += 1
            return function(*args, **kwargs)

        return call

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        reports = [
            {
                **report.to_dict(),
                "layers": {name: numbers(layer) for name, layer in report.items()},
                "run": numbers(report.run),
                "parameters": {name: numbers(parameter) for name, parameter in report.parameters.items()},
            }
            for report in self.health.reports
        ]
        file = self.folder / f"{trainer.global_rank}.json"
        file.write_text(json.dumps({"reports": reports, "calls": self.calls}))


def numbers(measures: Any) -> dict[str, Any]:
    return {name: value.tolist() for name, value in measures.items()}


def train(
    model: Learner,
    folder: Path,
    ranks: int = 2,
    *,
    unused: bool = False,
    static: bool = False,
    extra: Sequence[Callback] = (),
    ckpt_path: Path | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """What each rank has written; with ``unused`` some parameter may be without a gradient on some rank.

    With ``static``, DDP is told that all steps use the same ones.
    """
    names = ("window", "measures", "rules", "every_n_steps", "max_overhead")
    settings = {name: options.pop(name) for name in names if name in options}
    health = make_health(**{"measures": "full", **settings})
    folder.mkdir(exist_ok=True)
    if ranks > 1:
        options |= {
            "devices": ranks,
            "use_distributed_sampler": False,
            "strategy": DDPStrategy(
                start_method="fork",
                process_group_backend="gloo",
                find_unused_parameters=unused,
                static_graph=static,
                timeout=timedelta(seconds=20),
            ),
        }
    make_trainer(health, Save(health, folder), *extra, **options).fit(model, ckpt_path=ckpt_path)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


def all_numbers(saved: dict[str, Any], index: int = -1) -> dict[str, Tensor]:
    report = saved["reports"][index]
    tables = {"run": report["run"], **report["layers"], **report["parameters"]}
    return {
        f"{name} {measure}": torch.tensor(value, dtype=torch.float64)
        for name, table in tables.items()
        for measure, value in table.items()
    }


# The same numbers


COUNTS = ("on_rate", "zero_rate", "activation_rows", "slope", "gradient_pass_rate", "nonfinite_rate", "nonfinite_step")
OF_BATCHES = ("activation_scale",)  # the spread within a batch


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


# Ranks that do not see the same


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


class FailsOnRank1(Every):
    """Our hooks raise on one rank in the third step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_rank == 1 and batch_idx == 2:
            take = Ledger.take_soon

            def broken(ledger: Ledger, subject: Any, signal: Signal, x: Tensor) -> None:
                if signal is Signal.ACTIVATION:
                    raise RuntimeError("of ours")
                take(ledger, subject, signal, x)

            Ledger.take_soon = broken  # in a child, which ends soon
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


# What ranks say to each other


EXTREMES = ["activation_min", "activation_max"]


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


# The ledger alone


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


def test_forked_processes_are_gone() -> None:
    """The tests above have not changed this process."""
    assert not dist.is_initialized()
    assert os.environ.get("LOCAL_RANK") in (None, "0")
