"""A run that was cut in the middle of a window and resumed reports what the run without a cut does."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from lightning_neurohealth import Monitor, NeuronHealth, Report
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from tests.ranks import Every, train
from tests.training import Learner, make_data, make_health, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")


class Net(nn.Module):
    """Half of ``fc1`` is dead, and a tanh follows the second layer."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2, self.fc3 = nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 5), nn.Linear(5, 1)
        with torch.no_grad():
            self.fc1.bias[: hidden // 2] = -100.0

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(torch.tanh(self.fc2(self.act(self.fc1(x)))))


class Steady(Learner):
    """Its rows follow from the step alone, as Lightning begins a data loader anew when it resumes within an epoch."""

    def __init__(self, net: nn.Module | None = None) -> None:
        torch.manual_seed(3)
        super().__init__(Net() if net is None else net)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.trainer.global_step)
        x, y = torch.randn(8, 4, generator=generator), torch.randn(8, 1, generator=generator)
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss)
        return loss


class SteadyValidated(Steady):
    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", F.mse_loss(self(torch.ones(2, 4)), torch.ones(2, 1)))


class SaveAt(Callback):
    def __init__(self, step: int, file: Path) -> None:
        self.step, self.file = step, file

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and not self.file.exists():
            trainer.save_checkpoint(self.file)


RULES = [DeadNeurons(rows=30, grace=0)]


def numbers(report: Report) -> dict[str, Tensor]:
    found = {f"{name} {measure}": value for name, layer in report.items() for measure, value in layer.items()}
    found |= {f"run {measure}": value for measure, value in report.run.items()}
    for name, measures in report.parameters.items():
        found |= {f"{name} {measure}": value for measure, value in measures.items()}
    return found


def check_equal(resumed: list[Report], whole: list[Report]) -> None:
    assert [r.index for r in resumed] == [r.index for r in whole][-len(resumed) :]
    for report, expected in zip(resumed, whole[-len(resumed) :], strict=True):
        assert report.to_dict() == expected.to_dict()
        ours, theirs = numbers(report), numbers(expected)
        assert ours.keys() == theirs.keys()
        assert len(ours) > 50
        for name, value in theirs.items():
            assert torch.equal(ours[name].nan_to_num(nan=-7.0), value.nan_to_num(nan=-7.0)), (report.index, name)


class Attentive(nn.Module):
    """Each row attends to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.attention, self.head = nn.Linear(4, 8), nn.MultiheadAttention(8, 2), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc1(x).unsqueeze(0)
        return self.head(self.attention(z, z, z)[0])[0]


def test_heads_of_attention_go_on(tmp_path: Path) -> None:
    whole, resumed, file = make_health(rules=RULES), make_health(rules=RULES), tmp_path / "cut.ckpt"
    make_trainer(whole, SaveAt(9, file), max_epochs=2).fit(Steady(Attentive()), make_data(rows=48))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        make_trainer(resumed, max_epochs=2).fit(Steady(Attentive()), make_data(rows=48), ckpt_path=file)
    assert "net.attention.heads" in resumed.report
    check_equal(resumed.reports, whole.reports)


@pytest.mark.parametrize(("every", "cut"), [(1, 2), (1, 5), (1, 7), (1, 13), (1, 15), (2, 7), (3, 8), (4, 9)])
def test_reports_equal_those_of_the_run_without_a_cut(every: int, cut: int, tmp_path: Path) -> None:
    def health() -> NeuronHealth:
        return make_health(window=5, every_n_steps=every, measures="full", rules=RULES)

    options = {"max_steps": 18, "max_epochs": -1, "val_check_interval": 4}
    whole, file = health(), tmp_path / "cut.ckpt"
    make_trainer(whole, SaveAt(cut, file), **options).fit(SteadyValidated(), make_data(rows=48), make_data(rows=8))
    assert len(whole.reports) == 4
    assert every > 1 or whole.report.findings
    torch.load(file, weights_only=True)

    resumed = health()
    make_trainer(resumed, **options).fit(SteadyValidated(), make_data(rows=48), make_data(rows=8), ckpt_path=file)
    assert len(resumed.reports) == 4 - cut // 5
    check_equal(resumed.reports, whole.reports)


def test_checkpoints_of_lightning_itself(tmp_path: Path) -> None:
    whole, resumed = make_health(window=5, rules=RULES), make_health(window=5, rules=RULES)
    keep = ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1, filename="{step}")
    make_trainer(whole, keep, max_steps=18, max_epochs=-1, enable_checkpointing=True).fit(Steady(), make_data(rows=48))
    trainer = make_trainer(resumed, keep, max_steps=18, max_epochs=-1, enable_checkpointing=True)
    trainer.fit(Steady(), make_data(rows=48), ckpt_path=tmp_path / "step=12.ckpt")
    check_equal(resumed.reports, whole.reports)
    assert [r.index for r in resumed.reports] == [2, 3]


def test_a_whole_epoch_is_one_window_over_the_cut(tmp_path: Path) -> None:
    whole, resumed, file = make_health(rules=RULES), make_health(rules=RULES), tmp_path / "cut.ckpt"
    make_trainer(whole, SaveAt(9, file), max_epochs=3).fit(Steady(), make_data(rows=48))
    make_trainer(resumed, max_epochs=3).fit(Steady(), make_data(rows=48), ckpt_path=file)
    assert [r.steps for r in resumed.reports] == [6, 6]
    check_equal(resumed.reports, whole.reports)


def test_averages_and_history_go_on_after_the_end(tmp_path: Path) -> None:
    whole, first, second = (make_health(rules=RULES) for _ in range(3))
    make_trainer(whole, max_epochs=4).fit(Steady(), make_data(rows=48))
    trainer = make_trainer(first, max_epochs=2)
    trainer.fit(Steady(), make_data(rows=48))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    make_trainer(second, max_epochs=4).fit(Steady(), make_data(rows=48), ckpt_path=tmp_path / "end.ckpt")
    # the first run has said of its last window that it was the last
    check_equal(second.reports, whole.reports)


def test_gradients_that_accumulate(tmp_path: Path) -> None:
    whole, resumed, file = make_health(window=3), make_health(window=3), tmp_path / "cut.ckpt"
    options = {"max_epochs": 3, "accumulate_grad_batches": 2}
    make_trainer(whole, SaveAt(4, file), **options).fit(Steady(), make_data(rows=48))
    make_trainer(resumed, **options).fit(Steady(), make_data(rows=48), ckpt_path=file)
    assert [(r.step, r.steps) for r in resumed.reports] == [(6, 3), (9, 3)]
    check_equal(resumed.reports, whole.reports)


class Late(SingleDeviceStrategy):
    """Restores when all is set up, as sharded strategies do."""

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True


def test_strategies_that_restore_after_the_start_of_the_fit(tmp_path: Path) -> None:
    whole, resumed, file = make_health(window=5, rules=RULES), make_health(window=5, rules=RULES), tmp_path / "cut.ckpt"
    make_trainer(whole, SaveAt(7, file), max_steps=18, max_epochs=-1).fit(Steady(), make_data(rows=48))
    trainer = make_trainer(resumed, max_steps=18, max_epochs=-1, strategy=Late(torch.device("cpu")))
    trainer.fit(Steady(), make_data(rows=48), ckpt_path=file)
    check_equal(resumed.reports, whole.reports)
    assert [r.index for r in resumed.reports] == [1, 2, 3]


# Something else than before


def saved_at(step: int, file: Path, net: nn.Module | None = None, **settings: Any) -> Path:
    health = make_health(**{"window": 5, "measures": ["on_rate", "activation_mean"], "rules": RULES, **settings})
    make_trainer(health, SaveAt(step, file), max_steps=step, max_epochs=-1).fit(Steady(net), make_data(rows=48))
    return file


def resume(file: Path, net: nn.Module | None = None, **settings: Any) -> NeuronHealth:
    health = make_health(**{"window": 5, "measures": ["on_rate", "activation_mean"], "rules": RULES, **settings})
    model = Steady(net)
    model.strict_loading = False
    trainer = make_trainer(health, max_steps=12, max_epochs=-1)
    trainer.fit(model, make_data(rows=48), ckpt_path=file)
    return health


class Grown(Net):
    """``fc3`` is called ``top``: the layer is another one, of which the checkpoint knows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.top = self.fc3
        del self.fc3

    def forward(self, x: Tensor) -> Tensor:
        return self.top(torch.tanh(self.fc2(self.act(self.fc1(x)))))


def test_of_another_model_what_fits_is_taken(tmp_path: Path) -> None:
    file = saved_at(7, tmp_path / "cut.ckpt")
    with pytest.warns(
        RuntimeWarning, match=r"left out: layers .*net\.fc3\).*what was seen of the parameters"
    ) as caught:
        health = resume(file, Grown())
    assert len([w for w in caught if "NeuronHealth" in str(w.message)]) == 1
    assert list(health.reports[0]) == ["net.fc1", "net.fc2", "net.top"]
    rows = {name: float(layer["activation_mean"].numel()) for name, layer in health.reports[0].items()}
    assert rows == {"net.fc1": 8, "net.fc2": 5, "net.top": 1}
    assert (health.reports[0].steps, health.reports[0].measured) == (5, 5)


def test_other_measures_and_rules(tmp_path: Path) -> None:
    file = saved_at(7, tmp_path / "cut.ckpt", measures=["on_rate", "zero_rate", "activation_max", "activation_rows"])
    with pytest.warns(RuntimeWarning, match=r"measures that are not chosen \(activation_max"):
        health = resume(file, measures=["activation_rows", "activation_min"], rules=[])
    assert float(health.reports[0]["net.fc1"]["activation_rows"]) == 5 * 8
    assert health.reports[0].findings == health.reports[0].recovered == []


def test_excluded_layers_are_left_out(tmp_path: Path) -> None:
    file = saved_at(7, tmp_path / "cut.ckpt")
    with pytest.warns(RuntimeWarning, match=r"layers .*\(net\.fc2\)"):
        health = resume(file, exclude=["net.fc2"])
    assert list(health.reports[0]) == ["net.fc1", "net.fc3"]


@pytest.mark.parametrize("state", [{}, {"tree": ["dict", "version", 99], "tensors": {}}, {"tree": ["os:system", "x"]}])
def test_a_state_that_cannot_be_read_is_left_out(state: dict[str, Any], tmp_path: Path) -> None:
    file = saved_at(7, tmp_path / "cut.ckpt")
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["neurohealth"] = {"0": {**state, "tensors": {}}}
    torch.save(checkpoint, file)
    with pytest.warns(RuntimeWarning, match="begins anew"):
        health = resume(file)
    assert [r.steps for r in health.reports] == [5]


def test_a_checkpoint_without_us(tmp_path: Path) -> None:
    file = tmp_path / "cut.ckpt"
    make_trainer(SaveAt(7, file), max_steps=7, max_epochs=-1).fit(Steady(), make_data(rows=48))
    assert [r.steps for r in resume(file).reports] == [5]


def test_a_checkpoint_that_was_only_validated_is_forgotten(tmp_path: Path) -> None:
    file = saved_at(7, tmp_path / "cut.ckpt")
    health = make_health(window=5)
    trainer = make_trainer(health, max_steps=5, max_epochs=-1)
    trainer.validate(SteadyValidated(), make_data(rows=8), ckpt_path=file, verbose=False)
    trainer.fit(Steady(), make_data(rows=48))
    assert [(r.index, r.steps) for r in health.reports] == [(0, 5)]


# Without a trainer


def loop(monitor: Monitor, net: nn.Module, steps: range) -> None:
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        with monitor:
            loss = net(torch.randn(8, 4, generator=generator)).square().mean()
            loss.backward()
            monitor.record_loss(loss)
        optimizer.step()


@pytest.mark.parametrize("cut", [3, 8])
def test_a_loop_written_by_hand(cut: int) -> None:
    def begin() -> tuple[nn.Module, Monitor]:
        torch.manual_seed(3)
        net = Net()
        return net, Monitor(net, every_n_steps=1, window=5, measures="full", rules=RULES)

    net, whole = begin()
    loop(whole, net, range(cut))
    weights, state = {n: p.clone() for n, p in net.state_dict().items()}, whole.state_dict()
    loop(whole, net, range(cut, 15))

    net, resumed = begin()
    net.load_state_dict(weights)
    resumed.load_state_dict(state)
    loop(resumed, net, range(cut, 15))
    assert len(resumed.reports) == 3 - cut // 5
    check_equal(resumed.reports, whole.reports)
    whole.remove()
    resumed.remove()


# Two callbacks, several ranks


def test_each_of_two_callbacks_has_its_own(tmp_path: Path) -> None:
    def pair() -> tuple[NeuronHealth, NeuronHealth]:
        return make_health(window=5), make_health(window=7)

    whole, resumed, file = pair(), pair(), tmp_path / "cut.ckpt"
    make_trainer(*whole, SaveAt(9, file), max_steps=18, max_epochs=-1).fit(Steady(), make_data(rows=48))
    make_trainer(*resumed, max_steps=18, max_epochs=-1).fit(Steady(), make_data(rows=48), ckpt_path=file)
    for ours, theirs in zip(resumed, whole, strict=True):
        check_equal(ours.reports, theirs.reports)


class EverySteady(Every):
    """Each rank trains on rows that follow from its number and the step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        generator = torch.Generator().manual_seed(self.trainer.global_step * world + rank)
        x, y = (torch.randn(8, width, generator=generator, dtype=torch.float64) for width in (4, 1))
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss)
        return loss


COUNTS = ("on_rate", "zero_rate", "activation_rows", "gradient_pass_rate", "nonfinite_rate", "nonfinite_step")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("cut", [2, 6])
def test_sums_of_two_ranks_do_not_multiply(cut: int, tmp_path: Path) -> None:
    options = {"max_steps": 9, "max_epochs": -1, "window": 4, "rules": RULES}
    file = tmp_path / "cut.ckpt"
    whole, _ = train(EverySteady(Net()), tmp_path / "whole", extra=[SaveAt(cut, file)], **options)
    torch.load(file, weights_only=True)
    first, second = train(EverySteady(Net()), tmp_path / "resumed", ckpt_path=file, **options)
    assert first["reports"] == second["reports"]
    assert [r["index"] for r in first["reports"]] == ([0, 1, 2] if cut == 2 else [1, 2])
    for ours, theirs in zip(first["reports"], whole["reports"][-len(first["reports"]) :], strict=True):
        for known in ("index", "epoch", "step", "steps", "measured", "coverage"):
            assert ours[known] == theirs[known]
        assert [(f["condition"], f["layer"], f["since"]) for f in ours["findings"]] == [
            (f["condition"], f["layer"], f["since"]) for f in theirs["findings"]
        ]
        for table in ("layers", "parameters"):
            assert list(ours[table]) == list(theirs[table])
            for name, measures in theirs[table].items():
                for measure, value in measures.items():
                    close(ours[table][name][measure], value, measure, f"{name} {measure}")
        for measure, value in theirs["run"].items():
            close(ours["run"][measure], value, measure, measure)


def close(ours: Any, theirs: Any, measure: str, where: str) -> None:
    exact = measure in COUNTS  # sums come in another order
    torch.testing.assert_close(
        torch.tensor(ours, dtype=torch.float64),
        torch.tensor(theirs, dtype=torch.float64),
        rtol=0 if exact else 1e-9,
        atol=0 if exact else 1e-12,
        equal_nan=True,
        msg=where,
    )
