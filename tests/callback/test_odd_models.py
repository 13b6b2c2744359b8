"""Models and batches that are unlike others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_neurohealth import Severity
from tests.callback.numbers import rows
from tests.training import MLP, Learner, fit, make_data


def test_nan_in_an_activation_is_counted_and_found() -> None:
    data = make_data()
    data.dataset.tensors[0][-1, 0] = torch.nan  # in the last batch, so that no weight is broken before
    report = fit(MLP(), data).report
    for name in ("net.fc1", "net.fc2"):
        torch.testing.assert_close(
            report[name]["nonfinite_rate"], torch.full_like(report[name]["nonfinite_rate"], 1 / 32)
        )
    assert float(report["net.fc1"]["nonfinite_step"]) == 3
    assert (report["net.fc1"]["on_rate"] <= 31 / 32).all()
    finding = report.findings[0]
    assert (finding.condition, finding.severity, finding.layer) == ("non_finite", Severity.CRITICAL, "net.fc1")
    assert "step 3" in finding.message


class Experts(nn.Module):
    """``some`` gets no row in the first batch, ``empty`` none ever, and ``unused`` is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.some, self.empty, self.unused = (nn.Linear(4, 1) for _ in range(3))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        kept = len(x) if self.calls else 0
        self.calls += 1
        out = self.some(x[:kept])
        return F.pad(out, (0, 0, 0, len(x) - kept)) + self.empty(x[:0]).sum()


def test_batches_without_rows() -> None:
    report = fit(Experts()).report
    assert rows(report, "net.some") == 24
    assert torch.isfinite(report["net.some"]["on_rate"]).all()
    assert report.coverage.missed["net.unused"] == "never called"
    assert "net.empty" not in report  # no row, no number
    assert "net.empty" in report.coverage.missed


@pytest.mark.filterwarnings("ignore:.*returned `None`")
def test_step_without_a_loss() -> None:
    class Skips(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    report = fit(Skips(MLP())).report
    assert report.steps == 4
    assert rows(report) == 24
    assert len(report.run["train_loss"]) == 3


@pytest.mark.parametrize("name", ["run", "parameters_", "forward_"])
def test_layer_with_a_name_that_means_something_to_us(name: str) -> None:
    class Named(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(name, nn.Linear(4, 1))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return getattr(self, name)(batch[0]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    report = fit(Named()).report
    assert list(report) == [name]
    assert rows(report, name) == 32


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature", "ignore:The total number of parameters")
def test_lazy_modules() -> None:
    """Their weights get a shape in the first forward."""
    report = fit(nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))).report
    assert list(report) == ["net.0", "net.2"]
    assert report["net.0"]["gradient_norm"] > 0


def test_layer_of_complex_numbers_is_listed_as_not_seen() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wave, self.head = nn.Linear(4, 8, dtype=torch.complex64), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.wave(x.to(torch.complex64)).abs())

    report = fit(Complex()).report
    assert list(report) == list(report.coverage.watched) == ["net.head"]
    assert report.coverage.missed["net.wave"] == "gives numbers that are not measured (torch.complex64)"


def test_several_forwards_in_one_step_are_one_layer() -> None:
    """LBFGS calls its closure up to 20 times a step."""

    class SecondOrder(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.head = nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.mse_loss(self.head(self.act(self.fc(batch[0]))), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), max_iter=3)

    assert list(fit(SecondOrder()).report) == ["fc", "head"]
