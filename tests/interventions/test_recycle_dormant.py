from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from lightning_neurohealth.interventions import RecycleDormant
from tests.training import Learner, make_data, make_health, make_trainer, traces


def sick(dead: int = 5) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))
    with torch.no_grad():
        net[0].bias[:dead] = -50
    return net


def run(net: nn.Module, *callbacks: Any, **options: Any) -> Learner:
    learner = Learner(net, lr=1e-3)
    make_trainer(*callbacks, **{"max_epochs": 2, **options}).fit(learner, make_data())
    return learner


class TestRecycleDormant:
    def test_wakes_the_dead(self) -> None:
        net, health, recycling = sick(), make_health(), RecycleDormant()
        run(net, health, recycling, max_epochs=3)
        assert (health.reports[0]["net.0"]["on_rate"][:5] == 0).all()
        assert recycling.history[0].neurons["net.0"][:5] == [0, 1, 2, 3, 4]
        assert recycling.history[0].step == 4
        assert (health.reports[-1]["net.0"]["on_rate"][:5] > 0).all()

    def test_order_of_the_callbacks_does_not_matter(self) -> None:
        weights = []
        for turned in (False, True):
            net, callbacks = sick(), [make_health(), RecycleDormant()]
            run(net, *(reversed(callbacks) if turned else callbacks))
            weights.append(torch.cat([p.flatten() for p in net.parameters()]))
        assert torch.equal(*weights)

    def test_only_those_at_or_under_tau(self) -> None:
        health, recycling = make_health(), RecycleDormant(tau=0.5)
        run(sick(), health, recycling)
        dormancy = health.reports[0]["net.0"]["dormancy"]
        assert recycling.history[0].neurons["net.0"] == (dormancy <= 0.5).nonzero().flatten().tolist()
        assert 5 < len(recycling.history[0].neurons["net.0"]) < 16

    def test_every_n_windows(self) -> None:
        steps = {}
        for n in (1, 2):
            recycling = RecycleDormant(every_n_windows=n, tau=0.9)
            run(sick(), make_health(window=2), recycling, max_epochs=3)
            steps[n] = [recycled.step for recycled in recycling.history]
        assert steps == {1: [2, 4, 6, 8, 10], 2: [4, 8]}

    def test_goes_on_counting_after_a_resume(self, tmp_path: Path) -> None:
        whole = RecycleDormant(every_n_windows=3, tau=0.9)
        run(sick(), make_health(window=1), whole, max_epochs=3)
        assert [recycled.step for recycled in whole.history] == [3, 6, 9]

        learner, cut = Learner(sick(), lr=1e-3), RecycleDormant(every_n_windows=3, tau=0.9)
        trainer = make_trainer(make_health(window=1), cut, max_epochs=2)
        trainer.fit(learner, make_data())
        trainer.save_checkpoint(tmp_path / "x.ckpt")
        again = RecycleDormant(every_n_windows=3, tau=0.9)
        make_trainer(make_health(window=1), again, max_epochs=3).fit(
            learner, make_data(), ckpt_path=tmp_path / "x.ckpt"
        )
        assert [recycled.step for recycled in again.history] == [3, 6, 9]
        assert again.history[:2] == cut.history

    def test_what_is_due_when_a_run_is_cut_is_done_after_it(self, tmp_path: Path) -> None:
        learner = Learner(sick(), lr=1e-3)
        trainer = make_trainer(make_health(), RecycleDormant(), max_epochs=1)  # no step follows its one window
        trainer.fit(learner, make_data())
        trainer.save_checkpoint(tmp_path / "x.ckpt")
        assert (learner.net[0].bias[:5] < -49).all()
        again = RecycleDormant(every_n_windows=5)
        make_trainer(make_health(), again, max_epochs=2).fit(learner, make_data(), ckpt_path=tmp_path / "x.ckpt")
        assert again.history[0].neurons["net.0"][:5] == [0, 1, 2, 3, 4]
        assert (learner.net[0].bias[:5] > -1).all()

    def test_a_second_run_begins_anew(self) -> None:
        recycling = RecycleDormant(every_n_windows=2, tau=0.9)
        for _ in range(2):
            run(sick(), make_health(window=1), recycling, max_epochs=1)
            assert [recycled.step for recycled in recycling.history] == [2]

    def test_changes_nothing_where_nothing_is_dormant(self) -> None:
        healthy = [sick(dead=0), sick(dead=0)]
        recycling = RecycleDormant(tau=0.0)
        run(healthy[0], make_health(), recycling)
        run(healthy[1])
        assert recycling.history == []
        for a, b in zip(*(net.parameters() for net in healthy), strict=True):
            assert torch.equal(a, b)

    def test_logs_how_many(self, tmp_path: Path) -> None:
        logger = CSVLogger(tmp_path)
        recycling = RecycleDormant()
        run(sick(), make_health(), recycling, logger=logger, log_every_n_steps=1)
        count = sum(map(len, recycling.history[0].neurons.values()))
        table = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
        column = table[0].split(",").index("neurohealth/recycled")
        assert [float(v) for row in table[1:] if (v := row.split(",")[column])] == [count]

    def test_says_what_stays(self) -> None:
        class Residual(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc1, self.fc2, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

            def forward(self, x: Tensor) -> Tensor:
                x = x + torch.relu(self.fc1(x))
                return self.out(torch.relu(self.fc2(x)))

        torch.manual_seed(0)
        net = Residual()
        with torch.no_grad():
            net.fc1.bias[0] = net.fc2.bias[0] = -50
        recycling = RecycleDormant(tau=0.0)
        run(net, make_health(), recycling)
        assert recycling.history[0].neurons == {"net.fc2": [0]}
        assert "part of a sum" in recycling.left["net.fc1"]

    def test_leaves_no_trace(self) -> None:
        net = sick()
        learner = Learner(net, lr=1e-3)
        before = traces(learner)
        make_trainer(make_health(), RecycleDormant(), max_epochs=2).fit(learner, make_data())
        assert traces(learner) == before

    def test_leaves_no_trace_after_an_exception(self) -> None:
        def fail(learner: Learner, step: int) -> None:
            raise RuntimeError("stop")

        learner = Learner(sick(), at_step=fail)
        before = traces(learner)
        with pytest.raises(RuntimeError, match="stop"):
            make_trainer(make_health(), RecycleDormant()).fit(learner, make_data())
        assert traces(learner) == before

    def test_fault_of_ours_ends_no_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: Any) -> None:
            raise KeyError("ours")

        monkeypatch.setattr("lightning_neurohealth.interventions.recycle_dormant.begin_anew", fail)
        with pytest.warns(RuntimeWarning, match="recycles nothing in this run; training goes on: KeyError"):
            learner = run(sick(), make_health(), RecycleDormant())
        assert len(learner.losses) == 8

    def test_same_on_every_rank(self, tmp_path: Path) -> None:
        recycling = RecycleDormant()
        learner = OnRanks(sick(), tmp_path, recycling)
        make_trainer(
            make_health(), recycling, max_epochs=2, devices=2, strategy="ddp_fork", use_distributed_sampler=True
        ).fit(learner, make_data())
        ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
        assert ranks[0]["neurons"] == ranks[1]["neurons"]
        assert ranks[0]["neurons"]["net.0"][:5] == [0, 1, 2, 3, 4]
        assert torch.equal(ranks[0]["weights"], ranks[1]["weights"])

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"every_n_windows": 0}, ValueError),
            ({"every_n_windows": "epoch"}, TypeError),
            ({"tau": 1.0}, ValueError),
            ({"tau": -0.1}, ValueError),
            ({"tau": "low"}, TypeError),
            ({"seed": 0.5}, TypeError),
        ],
    )
    def test_bad_settings(self, options: dict[str, Any], error: type[Exception]) -> None:
        with pytest.raises(error, match=next(iter(options))):
            RecycleDormant(**options)

    def test_needs_neuron_health(self) -> None:
        with pytest.raises(ValueError, match="needs the windows of NeuronHealth"):
            run(sick(), RecycleDormant())
        with pytest.raises(ValueError, match='measure "dormancy"'):
            run(sick(), make_health(measures=["on_rate"]), RecycleDormant())


class OnRanks(Learner):
    def __init__(self, net: nn.Module, folder: Path, recycling: RecycleDormant) -> None:
        super().__init__(net, lr=1e-3)
        self.folder, self.recycling = folder, recycling

    def on_train_end(self) -> None:
        weights = torch.cat([p.detach().flatten() for p in self.parameters()])
        found = {"weights": weights, "neurons": self.recycling.history[0].neurons}
        torch.save(found, self.folder / f"{self.global_rank}.pt")
