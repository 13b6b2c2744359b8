"""The numbers of a run are the same however Lightning runs it, and those of plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    Callback,
    EMAWeightAveraging,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_neurohealth import Report
from tests.training import MLP, Learner, Validated, fit, make_data, make_health, make_trainer, traces


def numbers(report: Report) -> dict[str, Tensor]:
    """All of a report, in one table."""
    found = {f"{name} {measure}": value for name, layer in report.items() for measure, value in layer.items()}
    for name, measures in report.parameters.items():
        found |= {f"{name} {measure}": value for measure, value in measures.items()}
    return found | dict(report.run)


def assert_same(report: Report, expected: Report, **tolerance: float) -> None:
    assert list(report) == list(expected)
    torch.testing.assert_close(numbers(report), numbers(expected), equal_nan=True, **tolerance)


def rows(report: Report, layer: str = "net.fc1") -> float:
    return float(report[layer]["activation_rows"])


# Weights that are averaged, layers that thaw


AVERAGED: dict[str, Callable[[], Callback]] = {
    "SWA": lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1, annealing_epochs=1),
    "EMA": lambda: EMAWeightAveraging(decay=0.9),
    "mean": WeightAveraging,
}


def averaged(*callbacks: Callback) -> list[Report]:
    torch.manual_seed(0)
    health = make_health(measures="full")
    trainer = make_trainer(*callbacks, health, max_epochs=3)
    data = [make_data(rows=rows, dtype=torch.float64) for rows in (32, 8)]
    trainer.fit(Validated(MLP().double()), *data)
    return health.reports


@pytest.mark.filterwarnings("ignore:Swapping scheduler")
@pytest.mark.parametrize("kind", AVERAGED)
def test_averages_of_weights_are_not_what_is_watched(kind: str) -> None:
    """They are kept beside the model that trains, or validated in its place."""
    reports, expected = averaged(AVERAGED[kind]()), averaged()
    assert len(reports) == len(expected) == 3
    for report, plain in zip(reports, expected, strict=True):
        assert_same(report, plain, rtol=1e-9, atol=1e-12)


class FineTuned(LightningModule):
    """A backbone that is frozen at the start, and joins the optimizer when it thaws."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.mse_loss(self.head(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], 0.05)


@pytest.mark.filterwarnings("ignore:The provided params to be frozen")
def test_backbone_that_thaws_in_the_middle_of_the_run() -> None:
    torch.manual_seed(0)
    thaw = BackboneFinetuning(unfreeze_backbone_at_epoch=1, lambda_func=lambda _: 1.0, backbone_initial_lr=0.01)
    health = make_health()
    make_trainer(thaw, health, max_epochs=3).fit(FineTuned(), make_data(rows=120, batch=4))
    assert [float(r.parameters["backbone.0.weight"]["gradient_norm"]) > 0 for r in health.reports] == [0, 1, 1]
    assert [float(r.parameters["backbone.0.weight"]["update_ratio"]) > 0 for r in health.reports] == [0, 1, 1]
    assert ["gradient_flow" in r["backbone.0"] for r in health.reports] == [False, True, True]
    assert ["gradient_flow" in r["head"] for r in health.reports] == [True] * 3
    assert [rows(r, "backbone.0") for r in health.reports] == [120] * 3
    assert [r.findings for r in health.reports] == [[]] * 3


# Finders


@pytest.mark.filterwarnings("ignore:.*checkpoint.*", "ignore:.*weights_only.*")
def test_learning_rate_finder_leaves_nothing(tmp_path: Any) -> None:
    health, model = make_health(), Learner(MLP())
    trainer = make_trainer(health, max_epochs=2, default_root_dir=tmp_path)
    before = traces(model)
    Tuner(trainer).lr_find(model, make_data(rows=400), num_training=20)
    assert traces(model) == before
    trainer.fit(model, make_data())
    assert [(r.index, r.epoch, r.step, r.steps, rows(r)) for r in health.reports] == [
        (0, 0, 4, 4, 32),
        (1, 1, 8, 4, 32),
    ]


class Sized(Learner):
    batch_size = 2

    def train_dataloader(self) -> DataLoader:
        return make_data(rows=32, batch=self.batch_size)


@pytest.mark.filterwarnings("ignore:.*checkpoint.*", "ignore:.*weights_only.*")
def test_batch_size_finder_leaves_nothing(tmp_path: Any) -> None:
    health, model = make_health(), Sized(MLP())
    trainer = make_trainer(health, max_epochs=2, default_root_dir=tmp_path)
    before = traces(model)
    found = Tuner(trainer).scale_batch_size(model, steps_per_trial=2, max_trials=2)
    assert traces(model) == before
    trainer.fit(model)
    steps = 32 // found
    assert [(r.index, r.step, r.steps, rows(r)) for r in health.reports] == [
        (0, steps, steps, 32),
        (1, 2 * steps, steps, 32),
    ]


# Data


class Several(Learner):
    """One loss over the batches of all its loaders."""

    def training_step(self, batch: dict[str, list[Tensor] | None], batch_idx: int) -> Tensor:
        return sum(F.mse_loss(self(part[0]), part[1]) for part in batch.values() if part is not None)


@pytest.mark.parametrize(
    ("mode", "steps", "seen"), [("max_size_cycle", 4, 64), ("min_size", 2, 32), ("max_size", 4, 48)]
)
def test_several_loaders(mode: Any, steps: int, seen: int) -> None:
    torch.manual_seed(0)
    net, loaders = MLP().double(), [make_data(rows=rows, dtype=torch.float64) for rows in (32, 16)]
    combined = CombinedLoader(dict(zip("ab", loaders, strict=True)), mode)
    report = fit(Several(net, lr=0.0), combined).report
    assert (report.steps, rows(report)) == (steps, seen)
    counts = {"max_size_cycle": (1, 2), "min_size": (0.5, 1), "max_size": (1, 1)}[mode]
    parts = [loader.dataset.tensors[0] for loader in loaders]
    x = torch.cat(
        [
            part[: int(count * len(part))] if count <= 1 else torch.cat([part, part])
            for part, count in zip(parts, counts, strict=True)
        ]
    )
    torch.testing.assert_close(report["net.fc1"]["on_rate"], (net.fc1(x) > 0).double().mean(0))


@pytest.mark.parametrize("sanity", [0, 2])
def test_sanity_check_is_not_measured(sanity: int) -> None:
    torch.manual_seed(0)
    net, health = MLP().double(), make_health()
    data = make_data(dtype=torch.float64)
    make_trainer(health, num_sanity_val_steps=sanity).fit(Validated(net, lr=0.0), data, make_data(dtype=torch.float64))
    assert rows(health.report) == 32
    on = net.fc1(data.dataset.tensors[0]) > 0
    torch.testing.assert_close(health.report["net.fc1"]["on_rate"], on.double().mean(0))


# Steps of many passes


class Flat(LightningModule):
    """Its layers are its own; ``losses`` gives what is to become small."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch[0])

    def loss(self, x: Tensor) -> Tensor:
        return self(x).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


class Contrastive(Flat):
    """Two views of a batch in one loss: two forwards for one backward."""

    def loss(self, x: Tensor) -> Tensor:
        return -F.cosine_similarity(self(x), self(x.flip(1))).mean()


def test_two_forwards_for_one_backward() -> None:
    torch.manual_seed(0)
    model = Contrastive().double()
    data = make_data(dtype=torch.float64)
    report = fit(model, data, measures="full").report
    assert list(report) == ["fc1", "fc2"]
    assert rows(report, "fc1") == 64
    gradients, norms = [], []
    for x, _ in data:
        a = [torch.tanh(model.fc1(view)) for view in (x, x.flip(1))]
        loss = -F.cosine_similarity(model.fc2(a[0]), model.fc2(a[1])).mean()
        gradients.append(torch.autograd.grad(loss, a, retain_graph=True))
        norms.append(torch.autograd.grad(loss, model.fc1.weight)[0].norm())
    flat = torch.stack([torch.cat(pair) for pair in gradients])
    torch.testing.assert_close(report["fc1"]["gradient_variance"], flat.var(correction=0))
    weights = 0.9 ** torch.arange(3, -1, -1, dtype=torch.float64)
    flow = (weights[:, None] * flat.abs().mean(1)).sum(0) / weights.sum()
    torch.testing.assert_close(report["fc1"]["gradient_flow"], flow)
    torch.testing.assert_close(report["fc1"]["gradient_norm"], torch.stack(norms).square().mean().sqrt())


class Curved(Flat):
    """Second order: each step calls its closure several times, with other weights each time."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[Tensor]] = []

    def loss(self, x: Tensor) -> Tensor:
        self.seen.append([p.detach().clone() for p in self.parameters()])
        return super().loss(x)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


def test_every_pass_of_lbfgs_is_measured() -> None:
    torch.manual_seed(0)
    model, x = Curved().double(), make_data(rows=8, dtype=torch.float64).dataset.tensors[0]
    report = fit(model, make_data(rows=8, dtype=torch.float64)).report
    assert (report.steps, report.measured, len(model.seen)) == (1, 1, 3)
    hidden, gradients = [], []
    for weights in model.seen:
        w1, b1, w2, b2 = (w.requires_grad_() for w in weights)
        hidden.append(torch.tanh(x @ w1.T + b1))
        loss = (hidden[-1] @ w2.T + b2).square().mean()
        gradients.append(torch.autograd.grad(loss, [hidden[-1], *weights]))
    assert rows(report, "fc1") == 8 * 3
    torch.testing.assert_close(report["fc1"]["activation_mean"], torch.cat(hidden).mean(0).detach())
    flow = torch.cat([of_hidden.abs() for of_hidden, *_ in gradients]).mean(0)
    torch.testing.assert_close(report["fc1"]["gradient_flow"], flow)
    # the gradient of a step is that with which it begins
    norm = torch.cat([g.flatten() for g in gradients[0][1:]]).norm()
    torch.testing.assert_close(report.run["global_gradient_norm"], norm.reshape(1))


# Precision


def test_bfloat16_is_measured_in_single_precision() -> None:
    """Activations come in bfloat16, of 8 bits; their sums must not be."""
    torch.manual_seed(0)
    net = MLP(32)
    data = make_data(rows=4000, batch=1000)
    report = fit(Learner(net, lr=0.0), data, precision="bf16-mixed", measures="full").report
    with torch.autocast("cpu", torch.bfloat16):
        z = net.fc1(data.dataset.tensors[0])
    assert z.dtype == torch.bfloat16
    a = z.relu().double()
    layer = report["net.fc1"]
    torch.testing.assert_close(layer["on_rate"], (a > 0).double().mean(0))
    torch.testing.assert_close(layer["activation_mean"], a.mean(0), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(layer["activation_std"], a.std(0, correction=0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(layer["preactivation_mean"], z.double().mean(0), rtol=1e-4, atol=1e-6)
    plain = fit(Learner(net, lr=0.0), data, measures="full").report
    for measure in ("gradient_flow", "gradient_norm", "activation_std", "slope"):
        torch.testing.assert_close(layer[measure], plain["net.fc1"][measure], rtol=0.05, atol=1e-4)
