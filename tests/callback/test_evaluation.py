"""Validation, tests and predictions are measured on request, and never mixed with the training."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_neurohealth import NeuronHealth, Report, Severity
from lightning_neurohealth.sinks import Console
from tests.broken_ranks import as_torchrun, free_port
from tests.callback.numbers import rows
from tests.training import MLP, Endless, Validated, make_data, make_health, make_trainer, traces

WAYS = ("validate", "test", "predict")


def evaluate(trainer: Trainer, way: str, model: Validated, data: Any = None, **options: Any) -> None:
    quiet = {} if way == "predict" else {"verbose": False}
    getattr(trainer, way)(model, make_data() if data is None else data, **quiet, **options)


@pytest.mark.parametrize("way", WAYS)
def test_every_batch_is_measured(way: str) -> None:
    model, health = Validated(MLP()), make_health(evaluate=True, every_n_steps=10)
    before = traces(model)
    evaluate(make_trainer(health), way, model)
    report = health.evaluation
    assert (report.measured, rows(report), report.last) == (4, 32, True)
    x = torch.cat([batch[0] for batch in make_data()])
    a = torch.relu(model.net.fc1(x)).detach().double()
    torch.testing.assert_close(report["net.fc1"]["on_rate"], (a > 0).double().mean(0))
    torch.testing.assert_close(report["net.fc1"]["activation_std"], a.std(0, correction=0))
    assert "gradient_flow" not in report["net.fc1"]
    assert report.run == {}
    assert health.reports == []
    assert traces(model) == before


def test_its_numbers_are_no_tensors_of_inference_mode() -> None:
    health = make_health(evaluate=True)
    evaluate(make_trainer(health), "test", Validated(MLP()))
    rate = health.evaluation["net.fc1"]["on_rate"]
    assert not rate.is_inference()
    (rate * torch.ones(8, requires_grad=True)).sum().backward()


def test_training_and_its_own_validation_stay_apart() -> None:
    model, health = Validated(MLP()), make_health(evaluate=True)
    trainer = make_trainer(health, num_sanity_val_steps=2, max_epochs=2)
    trainer.fit(model, make_data(), make_data(rows=80))
    assert [rows(r) for r in health.reports] == [32, 32]
    assert health.evaluation is None
    evaluate(trainer, "validate", model, make_data(rows=80))
    assert rows(health.evaluation) == 80
    assert health.evaluation.step == 8
    assert [rows(r) for r in health.reports] == [32, 32]
    evaluate(trainer, "test", model)
    assert rows(health.evaluation) == 32


def test_several_dataloaders_are_one_report() -> None:
    class Several(Validated):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self(batch[0])

    health = make_health(evaluate=True)
    evaluate(make_trainer(health), "validate", Several(MLP()), [make_data(), make_data(rows=80)])
    assert rows(health.evaluation) == 112


class Half(MLP):
    """Half of its neurons never fire."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x) - torch.tensor([0.0, 100.0]).repeat_interleave(4)))


def test_what_activations_show_is_found() -> None:
    health = make_health(evaluate=True)
    evaluate(make_trainer(health), "test", Validated(Half()), make_data(rows=2000, batch=100))
    (finding,) = health.evaluation.findings
    assert (finding.condition, finding.layer, finding.neurons) == ("dead_neurons", "net.fc1", (4, 5, 6, 7))
    assert finding.severity is Severity.CRITICAL


def test_the_console_says_which_evaluation_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(make_trainer(make_health(evaluate=True, sinks=[Console()])), "test", Validated(MLP()))
    out = capsys.readouterr().out
    assert out.index("trainer.test:") < out.index("Neuron health")


def test_an_error_leaves_nothing_behind() -> None:
    class Fails(Validated):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            super().test_step(batch, batch_idx)
            raise ValueError("of the user")

    model, health = Fails(MLP()), make_health(evaluate=True)
    before = traces(model)
    with pytest.raises(ValueError, match="of the user"):
        evaluate(make_trainer(health), "test", model)
    assert traces(model) == before
    assert health.evaluation is None


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"evaluate": "yes"}, TypeError, "evaluate='yes'"),
        ({"evaluate": True, "measures": ["gradient_norm"]}, ValueError, "none of the measures gradient_norm"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        NeuronHealth(**settings)


class Uneven(Validated):
    """Rank 1 has no batch."""

    def test_dataloader(self) -> DataLoader:
        batches = list(make_data()) if self.trainer.global_rank == 0 else []
        return DataLoader(Endless(batches), batch_size=None)


def on_rank(rank: int, port: int, folder: Path, build: Callable[[], nn.Module]) -> None:
    os.environ |= as_torchrun(rank, port)
    health = make_health(evaluate=True)
    strategy = DDPStrategy(process_group_backend="gloo")
    trainer = make_trainer(health, devices=2, strategy=strategy, use_distributed_sampler=False)
    torch.manual_seed(0)
    trainer.test(Uneven(build()), verbose=False)
    (folder / f"{rank}.json").write_text(health.evaluation.to_json())


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_ranks_report_together_though_one_has_no_batch(tmp_path: Path) -> None:
    mp.start_processes(on_rank, (free_port(), tmp_path, MLP), nprocs=2, start_method="fork")
    first, second = ((tmp_path / f"{rank}.json").read_text() for rank in range(2))
    (tmp_path / "report.json").write_text(first)
    assert rows(Report.load(tmp_path / "report.json")) == 32
    assert first == second
