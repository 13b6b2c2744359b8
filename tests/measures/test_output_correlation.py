"""output_correlation: difference of means where the model is right and where it is wrong, in standard deviations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import Monitor, NeuronHealth
from lightning_neurohealth.answers import Answers
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.signals import Signal
from tests.measures.harness import Batches, assert_close, compute, layer
from tests.training import make_trainer

CLASSES = 3


def oracle(a: np.ndarray, right: np.ndarray) -> np.ndarray:
    """By the formula, from one row a sample."""
    return (a[right].mean(0) - a[~right].mean(0)) / a.std(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("neurons", [1, 5])
def test_difference_of_means_in_standard_deviations(neurons: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    right = [(torch.randn(n, neurons, generator=generator) + 1).to(dtype) for n in (7, 1, 13)]
    wrong = [torch.randn(n, neurons, generator=generator).to(dtype) for n in (2, 5)]
    given = {"right_activation": Batches(tuple(right)), "wrong_activation": Batches(tuple(wrong))}
    rows = np.asarray(torch.cat([*right, *wrong]).double())
    expected = oracle(rows, np.arange(len(rows)) < 21)
    assert_close(compute("output_correlation", given), expected, rtol=1e-9)


def test_a_constant_does_not_tell() -> None:
    ones = Batches((torch.ones(4, 2),))
    assert_close(compute("output_correlation", {"right_activation": ones, "wrong_activation": ones}), [0, 0])


# In a network


class Net(nn.Module):
    """Maps, a sequence and a vector: neurons on axis 1, on the last axis behind time, and with nothing beside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.relu(self.conv(x))
        steps = torch.tanh(self.mix(maps.flatten(2).transpose(1, 2)))
        return self.head(steps.mean(1))


def seen(net: Net, x: Tensor) -> dict[str, np.ndarray]:
    """What each layer gives for each sample, by hand."""
    with torch.no_grad():
        maps = torch.relu(net.conv(x))
        steps = torch.tanh(net.mix(maps.flatten(2).transpose(1, 2)))
        rows = {"conv": maps.mean((2, 3)), "mix": steps.mean(1), "head": net.head(steps.mean(1))}
    return {name: np.asarray(row.double()) for name, row in rows.items()}


class Lit(LightningModule):
    """Gives what ``gives`` makes of the logits beside the loss, and does not train."""

    def __init__(self, net: nn.Module, gives: Any = None) -> None:
        super().__init__()
        self.net, self.gives = net, gives or (lambda logits: {})

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = (batch["x"], batch["labels"]) if isinstance(batch, dict) else batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y.flatten()) if y.dtype == torch.long else logits.mean()
        return {"loss": loss, **self.gives(logits)}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.0)


def fit(net: nn.Module, data: Any, **options: Any) -> Any:
    health = NeuronHealth(every_n_steps=1, measures=["standard", "output_correlation"], sinks=[])
    make_trainer(health, max_epochs=1).fit(Lit(net, **options), DataLoader(data, batch_size=16))
    return health.report


DATA = (torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(40) % CLASSES)


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (DATA[1], {}),
        (DATA[1].reshape(-1, 1), {}),
        (DATA[1], {"gives": lambda logits: {"preds": logits.argmax(1)}}),
        (DATA[1], {"gives": lambda logits: {"logits": logits.softmax(1)}}),
    ],
    ids=["from the output layer", "a column of labels", "classes from the step", "scores from the step"],
)
def test_finds_labels_and_predictions(labels: Tensor, options: Any) -> None:
    torch.manual_seed(0)
    net = Net()
    report = fit(net, TensorDataset(DATA[0], labels), **options)
    truth = seen(net, DATA[0])
    right = truth["head"].argmax(1) == DATA[1].numpy()
    assert 3 < right.sum() < 37
    for name, rows in truth.items():
        assert_close(report[f"net.{name}"]["output_correlation"], oracle(rows, right), rtol=1e-4)
    assert "output_correlation" not in report.coverage.missed


def test_labels_by_name_in_a_mapping() -> None:
    torch.manual_seed(0)
    net = Net()
    report = fit(net, [{"x": x, "labels": y} for x, y in zip(*DATA, strict=True)])
    truth = seen(net, DATA[0])
    right = truth["head"].argmax(1) == DATA[1].numpy()
    assert_close(report["net.mix"]["output_correlation"], oracle(truth["mix"], right), rtol=1e-4)


def test_what_is_no_label_does_not_count() -> None:
    torch.manual_seed(0)
    net, y = Net(), DATA[1].clone()
    y[::4] = -100
    report = fit(net, TensorDataset(DATA[0], y))
    known = y.numpy() >= 0
    truth = {name: rows[known] for name, rows in seen(net, DATA[0]).items()}
    right = truth["head"].argmax(1) == y.numpy()[known]
    assert_close(report["net.conv"]["output_correlation"], oracle(truth["conv"], right), rtol=1e-4)


def test_two_classes_and_one_score() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1), nn.Flatten(0))
    x, y = torch.randn(30, 3), (torch.arange(30) % 2).float()
    report = fit(net, TensorDataset(x, y))
    right = ((net(x) > 0).float() == y).numpy()
    rows = np.asarray(torch.relu(net[0](x)).detach().double())
    assert_close(report["net.0"]["output_correlation"], oracle(rows, right), rtol=1e-4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (TensorDataset(DATA[0], torch.rand(40)), "labels are numbers, not classes"),
        (TensorDataset(DATA[0], torch.rand(40, CLASSES)), "not one a sample"),
    ],
    ids=["regression", "shares"],
)
def test_without_labels_it_is_listed_with_the_reason(data: Any, reason: str) -> None:
    report = fit(Net(), data)
    assert reason in report.coverage.missed["output_correlation"]
    assert "on_rate" in report["net.conv"]


def test_two_output_layers_are_not_guessed_at() -> None:
    class Two(Net):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            steps = torch.tanh(self.mix(torch.relu(self.conv(x)).mean((2, 3))))
            return self.head(steps) + 0 * self.other(steps)

    report = fit(Two(), TensorDataset(*DATA))
    assert "2 output layers" in report.coverage.missed["output_correlation"]


def test_in_a_loop_by_hand() -> None:
    torch.manual_seed(0)
    net = Net()
    monitor = Monitor(net, every_n_steps=1, measures=["output_correlation", "on_rate"])
    for part in (slice(0, 25), slice(25, 40)):
        with monitor:
            net(DATA[0][part]).mean().backward()
            monitor.record_answers(DATA[1][part])
    report = monitor.close()
    assert report is not None
    truth = seen(net, DATA[0])
    right = truth["head"].argmax(1) == DATA[1].numpy()
    assert_close(report["conv"]["output_correlation"], oracle(truth["conv"], right), rtol=1e-4)
    with monitor:
        net(DATA[0]).mean().backward()
        monitor.record_answers(net(DATA[0]).argmax(1))
    report = monitor.close()
    monitor.remove()
    assert report is not None
    assert "right on every sample" in report.coverage.missed["output_correlation"]


def test_a_loop_that_gives_no_labels() -> None:
    net = Net()
    monitor = Monitor(net, measures=["output_correlation", "on_rate"])
    with monitor:
        net(DATA[0]).mean().backward()
    report = monitor.close()
    monitor.remove()
    assert report is not None
    assert "call record_answers(labels)" in report.coverage.missed["output_correlation"]


class Taken:
    """Keeps the rows that count."""

    def __init__(self, most: int | str | None = "auto") -> None:
        self.most, self.phase = most, 0
        self.taken: list[tuple[Signal, Tensor]] = []

    def take(self, subject: Layer, signal: Signal, x: Tensor, *, some: Tensor) -> None:
        self.taken.append((signal, x[some].squeeze(2)))

    def some(self, layer: Layer, signal: Signal, x: Tensor) -> None:
        """There is no shorter way."""


def test_what_is_kept_in_vain_is_kept_seldom_until_it_is_of_use() -> None:
    receiver = Taken()
    answers, subject = Answers(receiver), layer(4)

    def batch(labels: Tensor | None) -> bool:
        answers.begin(3)
        answers.keep(subject, torch.zeros(3, 4))
        kept = bool(answers._kept)
        answers.settle(labels, torch.zeros(3, dtype=torch.long))
        return kept

    vain = [batch(None) for _ in range(40)]
    assert [turn for turn, kept in enumerate(vain, start=1) if kept] == [1, 2, 3, 4, 16, 32]
    useful = [batch(torch.zeros(3, dtype=torch.long)) for _ in range(20)]
    assert all(useful[useful.index(True) :])
    assert len(receiver.taken) == 2 * sum(useful)


def counted(a: Tensor, labels: Tensor, most: int | str | None, steps: int) -> list[list[Tensor]]:
    """The rows that count as right and as wrong in each step; predictions are 0."""
    receiver = Taken(most)
    answers, subject = Answers(receiver), layer(a.shape[1])
    subject.axis = 1
    found = []
    for receiver.phase in range(steps):
        receiver.taken.clear()
        answers.begin(len(a))
        answers.keep(subject, a)
        answers.settle(labels, torch.zeros(len(a), dtype=torch.long))
        found.append([rows for _, rows in receiver.taken])
    return found


@pytest.mark.parametrize(
    ("most", "samples"), [("auto", 31), (None, 400), (10, 10), (1000, 400)], ids=["auto", "all", "ten", "many"]
)
def test_of_a_large_batch_other_samples_count_in_each_step(most: int | str | None, samples: int) -> None:
    a = torch.arange(400.0).unsqueeze(1).expand(-1, 512).contiguous()
    labels = torch.arange(400) % 3
    seen = set()
    for right, wrong in counted(a, labels, most, steps=120):
        assert len(right) + len(wrong) == samples
        assert (right[:, 0] % 3 == 0).all()
        assert (wrong[:, 0] % 3 > 0).all()
        assert torch.equal(right, right[:, :1].expand(-1, 512))
        seen.update(right[:, 0].tolist() + wrong[:, 0].tolist())
    assert len(seen) == 400


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_of_large_maps_the_mean_is_over_some_places(memory: torch.memory_format) -> None:
    """Places differ by less than samples do, so that each mean tells its sample."""
    a = (torch.arange(64.0).view(-1, 1, 1, 1) + torch.rand(64, 16, 32, 32)).contiguous(memory_format=memory)
    labels = torch.arange(64) % 2
    for right, wrong in counted(a, labels, "auto", steps=20):
        assert len(right) + len(wrong) == 16
        assert (right.floor() % 2 == 0).all()
        assert (wrong.floor() % 2 == 1).all()
        for row in (*right, *wrong):
            assert len(row.floor().unique()) == 1
            assert (row.frac() - 0.5).abs().max() < 0.3


@pytest.mark.parametrize("classes", [10, 300])
def test_predictions_are_known_of_every_sample_of_a_large_batch(classes: int) -> None:
    receiver = Taken(5)
    answers, hidden, output = Answers(receiver), layer(512), layer(classes)
    scores = torch.randn(400, classes)
    labels = scores.argmax(1)
    labels[::2] = (labels[::2] + 1) % classes
    hidden.output = False
    a = torch.arange(400.0).unsqueeze(1).expand(-1, 512).contiguous()
    answers.begin(400)
    answers.keep(hidden, a)
    answers.keep(output, scores)
    scores.zero_()  # it is known already
    answers.settle(labels)
    assert not answers.reason
    (_, right), _, (_, wrong), _ = receiver.taken
    assert len(right) + len(wrong) == 5
    assert (right[:, 0] % 2 == 1).all()
    assert (wrong[:, 0] % 2 == 0).all()
