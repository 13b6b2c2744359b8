"""The last measured steps of a run that breaks are told, and cost next to nothing in one that does not."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_neurohealth import Monitor, NeuronHealth, Report
from lightning_neurohealth.black_box import LENGTH, BlackBox
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.sinks import Files
from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.slots import Members, Share, Slot
from tests.ranks import Every, train
from tests.training import MLP, Learner, fit, make_data, make_trainer

CPU = torch.device("cpu")


class Doomed(Learner):
    """The weights of ``fc1`` grow ``factor`` times at the steps ``at``; at ``ends`` it raises."""

    def __init__(self, at: Container[int], factor: float, ends: int | None = None) -> None:
        torch.manual_seed(0)
        super().__init__(MLP(), lr=0.0)
        self.at, self.factor, self.ends = at, factor, ends

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        step = self.trainer.global_step
        if step in self.at:
            self.net.fc1.weight.data.mul_(self.factor)
        if step == self.ends:
            raise KeyError("of the user")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("measures", ["economy", "standard"])
def test_an_explosion_before_an_exception_is_named(measures: str, tmp_path: Path) -> None:
    health = NeuronHealth(every_n_steps=2, measures=measures, sinks=[Files()])
    with pytest.raises(KeyError):
        make_trainer(health, logger=CSVLogger(tmp_path)).fit(Doomed([7], 1e6, ends=13), make_data(rows=200))
    first = health.report.breakdown
    assert (first.layer, first.signal, first.step) == ("net.fc1", "activations", 8)
    assert first.size > 1e5 * first.before > 0
    assert not [f for f in health.report.findings if f.condition == "non_finite"]
    assert "first to go: the activations of net.fc1 grew" in " ".join(str(health.report).split())
    (file,) = tmp_path.rglob("findings.json")
    assert json.loads(file.read_text())[-1]["breakdown"]["step"] == 8
    assert Report.load(file.parent).breakdown == first


def test_nan_is_traced_back_to_what_grew_before_it() -> None:
    """And the many steps after it do not push it out."""
    report = fit(Doomed(range(5, 40), 1e6), make_data(rows=8 * 40)).report
    (finding,) = [f for f in report.findings if f.condition == "non_finite"]
    assert report.breakdown.step == 5
    assert "before that, the activations of net.fc1 grew" in finding.cause
    assert "training step 5" not in finding.message


def test_nothing_is_said_of_a_run_that_does_not_break() -> None:
    health = NeuronHealth(every_n_steps=1, sinks=[])
    with pytest.raises(KeyError):
        make_trainer(health).fit(Doomed([], 1.0, ends=10), make_data(rows=200))
    assert health.report.breakdown is None
    assert fit(Doomed([7], 1e4), make_data(rows=80)).report.breakdown is None  # it exploded, and went on


def test_gradients_too() -> None:
    """What grows behind the last activation is first seen in the gradient."""

    class Steep(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * (1e6 if batch_idx >= 3 else 1.0) * (math.inf if batch_idx >= 5 else 1.0)

    first = fit(Steep(MLP(), lr=0.0), make_data(rows=64)).report.breakdown
    assert (first.layer, first.signal, first.step) == ("net.fc2", "gradients", 3)


def test_a_hand_written_loop() -> None:
    net, x = MLP(), torch.randn(8, 4)
    monitor = Monitor(net, every_n_steps=1, window="epoch")
    for step in range(8):
        with contextlib.suppress(KeyError), monitor:
            net.fc1.weight.data.mul_(1e4 if step >= 6 else 1.0)
            net(x).mean().backward()
            if step == 7:
                raise KeyError
    report = monitor.close()
    monitor.remove()
    assert (report.breakdown.layer, report.breakdown.step) == ("fc1", 6)


class DoomedOnRank1(Every):
    """The batches of one rank grow without bound."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_rank == 1 and batch_idx >= 2:
            batch = (batch[0] * 1e6**batch_idx * (math.nan if batch_idx == 3 else 1.0), batch[1])
        return super().training_step(batch, batch_idx)


def test_all_ranks_name_what_one_has_seen(tmp_path: Path) -> None:
    first, second = train(DoomedOnRank1(MLP()), tmp_path)
    assert first["reports"] == second["reports"]
    assert (first["reports"][0]["breakdown"]["layer"], first["reports"][0]["breakdown"]["step"]) == ("net.fc1", 2)
    assert first["calls"]["all_gather_object"] == 1  # and only where something broke


# The ring


def bring(*values: float, rows: int = 4, name: str = "fc1") -> list[Share]:
    """Pending activations of a layer of as many neurons, constant on all rows."""
    layer = Layer(name, len(values), -1, CPU)
    statistic = Moments(layer)
    x = torch.tensor(values)[None, :, None].expand(rows, -1, 1)
    slot = Slot(layer, Signal.ACTIVATION, [statistic])
    return [Share((slot,), slot.alone[statistic], statistic.partials(x))]


def sizes(box: BlackBox, name: str = "fc1") -> list[float]:
    return box.read().sizes[name, "activations"]


def test_sizes_are_root_mean_squares_over_rows_neurons_and_batches() -> None:
    box = BlackBox(CPU)
    box.take([*bring(3.0, 5.0), *bring(1.0, 7.0, rows=12)], 0)
    expected = math.sqrt((4 * (9 + 25) + 12 * (1 + 49)) / 32)
    assert sizes(box) == pytest.approx([expected])


def test_the_ring_is_bounded() -> None:
    box = BlackBox(CPU)
    for step in range(3 * LENGTH):
        box.take(bring(float(step)), step)
    assert sizes(box) == [float(step) for step in range(2 * LENGTH, 3 * LENGTH)]
    assert list(box.read().steps) == list(range(2 * LENGTH, 3 * LENGTH))


def test_it_keeps_what_was_before_the_first_nan_until_it_is_opened_again() -> None:
    box = BlackBox(CPU)
    for step, value in enumerate([1.0, 2.0, math.nan, math.nan, 3.0]):
        box.take(bring(value), step)
    assert list(box.read().steps) == [0, 1, 2]
    box.reopen()
    box.take(bring(3.0), 5)
    assert list(box.read().steps) == [0, 1, 2, 5]
    box.clear()
    assert not box.read().steps


def test_equal_layers_whose_rows_were_summed_together() -> None:
    one, other = Layer("one", 2, -1, CPU), Layer("other", 2, -1, CPU)
    slots = [Slot(layer, Signal.ACTIVATION, [Moments(layer)]) for layer in (one, other)]
    statistics = [slot.joint[0] for slot in slots]
    x = torch.tensor([1.0, 7.0, 3.0, 3.0])[None, :, None].expand(4, -1, 1)
    box = BlackBox(CPU)
    box.take([Share(slots, Members(statistics), statistics[0].partials(x))], 0)
    assert (sizes(box, "one"), sizes(box, "other")) == ([5.0], [3.0])


def test_layers_that_come_late_or_stay_away() -> None:
    box = BlackBox(CPU)
    box.take(bring(1.0), 0)
    box.take([*bring(1.0), *bring(2.0, name="late")], 1)
    box.take(bring(4.0, name="late"), 2)
    assert sizes(box) == [1.0, 1.0, -1.0]
    assert sizes(box, "late") == [-1.0, 2.0, 4.0]


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for the device."""

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))


def test_a_measured_step_does_not_wait_for_the_device() -> None:
    box = BlackBox(CPU)
    brought = [bring(1.0, math.nan), bring(2.0, 3.0, name="other")]
    with NoWaiting():
        for step, pending in enumerate(brought):
            box.take(pending, step)
    assert list(box.read().steps) == [0]
