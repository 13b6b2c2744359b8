"""What NeuronHealth measures in a run of the Trainer, when it reports, and what its reports are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_neurohealth import Finding, NeuronHealth, Report, Severity
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.sinks import Loggers
from lightning_neurohealth.window import Window
from tests.training import MLP, Endless, Learner, fit, make_data, make_health, make_trainer


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def rows(report: Report, layer: str = "net.fc1") -> float:
    return float(report[layer]["activation_rows"])


# Steps and windows


@pytest.mark.parametrize(("every_n_steps", "measured"), [(1, [12, 12]), (3, [4, 4]), (5, [3, 2]), (10, [2, 1])])
def test_one_step_in_n_is_measured(every_n_steps: int, measured: list[int]) -> None:
    health = fit(MLP(), make_data(rows=24, batch=2), every_n_steps=every_n_steps, max_epochs=2)
    assert [r.measured for r in health.reports] == measured
    assert [r.steps for r in health.reports] == [12, 12]
    assert [rows(r) for r in health.reports] == [2 * n for n in measured]


def test_window_of_an_epoch() -> None:
    health = fit(MLP(), max_epochs=3)
    assert [(r.index, r.epoch, r.step, r.steps) for r in health.reports] == [(0, 0, 4, 4), (1, 1, 8, 4), (2, 2, 12, 4)]
    assert [r.last for r in health.reports] == [False, False, True]


def test_window_of_n_steps_goes_over_epochs_and_ends_with_a_shorter_one() -> None:
    health = fit(MLP(), window=3, max_epochs=2)
    assert [(r.index, r.epoch, r.step, r.steps) for r in health.reports] == [(0, 0, 3, 3), (1, 1, 6, 3), (2, 1, 8, 2)]
    assert [rows(r) for r in health.reports] == [24, 24, 16]
    assert [r.last for r in health.reports] == [False, False, True]


def test_window_that_ends_with_the_fit_is_the_last() -> None:
    health = fit(MLP(), window=4, max_epochs=2)
    assert [r.steps for r in health.reports] == [4, 4]
    assert [r.last for r in health.reports] == [False, True]


def test_window_longer_than_the_fit() -> None:
    health = fit(MLP(), window=100)
    assert [(r.steps, r.last) for r in health.reports] == [(4, True)]


def test_window_shorter_than_the_sampling_waits_for_a_measured_step() -> None:
    health = fit(MLP(), make_data(rows=24, batch=2), window=2, every_n_steps=6)
    assert [(r.steps, r.measured) for r in health.reports] == [(2, 1), (5, 1)]


def test_max_steps_in_the_middle_of_an_epoch() -> None:
    health = fit(MLP(), max_epochs=-1, max_steps=3)
    assert [(r.steps, r.measured, r.step, r.last) for r in health.reports] == [(3, 3, 3, True)]


def test_max_steps_in_the_middle_of_a_later_epoch() -> None:
    health = fit(MLP(), max_epochs=-1, max_steps=6)
    assert [(r.steps, r.step, r.last) for r in health.reports] == [(4, 4, False), (2, 6, True)]


def test_a_stop_that_has_to_wait_is_not_the_last_window() -> None:
    model = Learner(MLP(), at_step=lambda model, step: setattr(model.trainer, "should_stop", True))
    health = fit(model, max_epochs=5, min_epochs=2)
    assert [(r.epoch, r.last) for r in health.reports] == [(0, False), (1, True)]


def test_limited_batches() -> None:
    health = fit(MLP(), limit_train_batches=2, max_epochs=2)
    assert [r.steps for r in health.reports] == [2, 2]
    assert [rows(r) for r in health.reports] == [16, 16]


@pytest.mark.parametrize("window", ["epoch", 3])
def test_dataset_without_a_length(window: Any) -> None:
    data = torch.utils.data.DataLoader(Endless(make_data()), batch_size=None)
    health = fit(MLP(), data, window=window)
    assert sum(rows(r) for r in health.reports) == 32
    assert health.report.last


@pytest.mark.parametrize(("every_n_steps", "seen"), [(1, 40), (2, 24)])
def test_all_batches_of_an_accumulated_step_are_measured(every_n_steps: int, seen: int) -> None:
    health = fit(MLP(), make_data(rows=40), every_n_steps=every_n_steps, accumulate_grad_batches=2)
    assert health.report.steps == health.report.step == 3  # two of two batches, one of one
    assert rows(health.report) == seen


def test_window_counts_optimizer_steps() -> None:
    health = fit(MLP(), make_data(rows=64), window=2, accumulate_grad_batches=2)
    assert [(r.step, r.steps, rows(r)) for r in health.reports] == [(2, 2, 32), (4, 2, 32)]


@dataclass(frozen=True, kw_only=True)
class Notes(RunRule):
    """Finds nothing and keeps the windows that it was shown."""

    grace: int = 0
    seen: tuple[list[Window]] = ([],)

    def judge(self, window: Window, train_loss: Tensor) -> Iterable[Verdict]:
        self.seen[0].append(window)
        return []


@pytest.mark.parametrize(("window", "epochs"), [("epoch", [1, 1]), (2, [0.5] * 4)])
def test_rules_know_how_much_of_an_epoch_was_measured(window: Any, epochs: list[float]) -> None:
    notes = Notes(seen=([],))
    fit(MLP(), rules=[notes], window=window, max_epochs=2)
    assert [w.epochs for w in notes.seen[0]] == epochs
    assert notes.seen[0][-1].trained == 2


def test_rules_know_the_learning_rate_and_the_loss() -> None:
    notes = Notes(seen=([],))
    model = Learner(MLP(), lr=0.25)
    fit(model, rules=[notes])
    (window,) = notes.seen[0]
    assert window.learning_rate == 0.25
    assert window.progress.recent == pytest.approx(model.losses)


# The report


def test_report_is_a_mapping_of_layers_in_the_order_of_execution() -> None:
    class Backwards(MLP):
        """fc2 is registered before fc1 and called after it."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.fc2, self.act, self.fc1 = nn.Linear(8, 1), nn.ReLU(), nn.Linear(4, 8)

    health = fit(Backwards())
    report = health.report
    assert isinstance(report, Mapping)
    assert list(report) == list(report.coverage.watched) == ["net.fc1", "net.fc2"]
    assert len(report) == 2
    assert "net.fc1" in report
    layer = report["net.fc1"]
    assert isinstance(layer, Mapping)
    assert (layer.name, layer.activation, layer.function, layer.neurons) == ("net.fc1", "net.act", "relu", 8)
    assert (layer.output, report["net.fc2"].output) == (False, True)
    assert layer["on_rate"].shape == (8,)
    assert layer["activation_scale"].shape == ()
    assert report["net.fc2"]["on_rate"].shape == (1,)
    assert "slope" not in report["net.fc2"]  # without an activation there is none
    with pytest.raises(KeyError, match=r"net\.act.*there are net\.fc1, net\.fc2"):
        report["net.act"]
    with pytest.raises(KeyError, match=r"on_rat.*on_rate"):
        layer["on_rat"]


def test_numbers_are_those_of_the_data() -> None:
    net = MLP()
    model = Learner(net, lr=0.0)
    report = fit(model).report
    x, y = (torch.cat(column) for column in zip(*make_data(), strict=True))
    z = net.fc1(x)
    a = torch.relu(z)
    layer = report["net.fc1"]
    torch.testing.assert_close(layer["on_rate"], (a > 0).double().mean(0))
    torch.testing.assert_close(layer["zero_rate"], (a == 0).double().mean(0))
    torch.testing.assert_close(layer["activation_std"], a.double().std(0, correction=0))
    torch.testing.assert_close(layer["preactivation_mean"], z.double().mean(0))
    torch.testing.assert_close(layer["slope"], (z > 0).double().mean(0))
    losses = F.mse_loss(net(x), y, reduction="none").view(4, 8).mean(1)
    torch.testing.assert_close(report.run["train_loss"], losses.double())
    norms = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
    torch.testing.assert_close(report.run["global_gradient_norm"], torch.stack(norms).double())


def test_measures_are_copies_and_reports_stay_as_they_were() -> None:
    health = fit(MLP(), max_epochs=2)
    first, second = health.reports
    kept = {name: value.clone() for name, value in first["net.fc1"].items()}
    assert second.previous is first
    assert health.report is second
    assert not torch.equal(first["net.fc1"]["activation_mean"], second["net.fc1"]["activation_mean"])
    fit(MLP(), health=health)
    for name, value in kept.items():
        assert torch.equal(first["net.fc1"][name], value), name


@pytest.mark.parametrize("measures", ["economy", "standard", "full", ["on_rate"]])
def test_measures_that_were_chosen(measures: Any) -> None:
    report = fit(MLP(), measures=measures).report
    assert "on_rate" in report["net.fc1"]
    assert ("preactivation_std" in report["net.fc1"]) == (measures in ("standard", "full"))
    assert ("activation_max" in report["net.fc1"]) == (measures == "full")
    assert ("gradient_flow" in report["net.fc1"]) == (measures != ["on_rate"])


def alarms(*severities: Severity) -> list[RunRule]:
    """Rules named alarm0, alarm1, … of the given severities that always speak."""

    def rule(index: int, severity: Severity) -> RunRule:
        def judge(self: RunRule, train_loss: Tensor) -> list[Verdict]:
            return [Verdict(severity, 1.0, 0.5, f"message {index}", "cause", "remedy", immediate=True)]

        kind = type(f"Alarm{index}", (RunRule,), {"judge": judge})
        return dataclass(frozen=True, kw_only=True)(kind)(grace=0)

    return [rule(index, severity) for index, severity in enumerate(severities)]


def test_findings_are_sorted_and_since_is_kept() -> None:
    warning, serious, critical = Severity.WARNING, Severity.SERIOUS, Severity.CRITICAL
    health = fit(MLP(), rules=alarms(warning, critical, serious), max_epochs=3)
    for report in health.reports:
        assert [f.severity for f in report.findings] == [critical, serious, warning]
        assert all(isinstance(f, Finding) for f in report.findings)
        assert {f.since for f in report.findings} == {(0, 4)}
        assert report.severity is critical
    assert health.report.findings[0].condition == "alarm1"
    assert "message 1" in str(health.report)


@pytest.mark.parametrize(
    ("severities", "score"),
    [((), 1.0), ((Severity.WARNING,), 2 / 3), ((Severity.WARNING, Severity.CRITICAL), 0.0)],
)
def test_score(severities: tuple[Severity, ...], score: float) -> None:
    assert fit(MLP(), rules=alarms(*severities)).report.score == pytest.approx(score)


def test_score_and_conditions_can_be_monitored() -> None:
    health = make_health(rules=alarms(Severity.WARNING))
    trainer = make_trainer(health)
    trainer.fit(Learner(MLP()), make_data())
    metrics = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("neurohealth/")}
    assert metrics == pytest.approx({"neurohealth/score": 2 / 3, "neurohealth/alarm0": 1.0})


class Memory(DummyLogger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.points.setdefault(name, []).append((step, float(value)))


@pytest.mark.parametrize("window", ["epoch", 2])
def test_a_logger_gets_few_keys_at_lightnings_steps(window: Any) -> None:
    logger = Memory()
    rules = alarms(*[Severity.WARNING] * 30)
    fit(MLP(), rules=rules, sinks=[Loggers()], logger=logger, window=window, max_epochs=2, log_every_n_steps=1)
    ours = {name: points for name, points in logger.points.items() if name.startswith("neurohealth/")}
    assert 1 < len(ours) <= 11
    steps = [step for step, _ in ours["neurohealth/score"]]
    assert steps == ([3, 7] if window == "epoch" else [1, 3, 5, 7])
    assert set(steps) <= {step for step, _ in logger.points["train_loss"]}


# What is odd


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


class Alternating(nn.Module):
    """``side`` is called on every second forward only, from the second one on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.side, self.act, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.fc(x)
        if self.calls % 2 == 0:
            x = x + self.act(self.side(x))
        return self.head(x)


def test_layer_that_is_not_called_in_the_first_step() -> None:
    report = fit(Alternating(), make_data(rows=80)).report
    assert list(report) == ["net.fc", "net.side", "net.head"]
    assert rows(report, "net.fc") == 80
    assert rows(report, "net.side") == 40


class Growing(nn.Module):
    """An activation follows ``fc`` only from the second call on, so that what was a linear layer is none any more."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.head, self.calls = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.act(self.fc(x)) if self.calls > 1 else self.fc(x))


@pytest.mark.parametrize("measures", ["standard", "full"])
def test_layer_that_gets_an_activation_later(measures: str) -> None:
    health = fit(Growing(), measures=measures, max_epochs=2)
    assert list(health.report) == ["net.fc", "net.head"]
    assert health.report["net.fc"].activation == "net.act"
    assert rows(health.report, "net.fc") == 32


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


# Gradients


class Adversarial(LightningModule):
    """A generator and a critic, each with its optimizer, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = MLP(), nn.Sequential(nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 1))
        self.norms: dict[str, list[float]] = {}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        noise, real = batch
        ours, theirs = self.optimizers()
        loss = self.critic(self.generator(noise).detach()).mean() - self.critic(real).mean()
        self.descend(theirs, loss)
        self.descend(ours, -self.critic(self.generator(noise)).mean())

    def descend(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in self.named_parameters():
            if id(parameter) in mine:
                self.norms.setdefault(name, []).append(parameter.grad.norm().item())

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(net.parameters(), 0.01) for net in (self.generator, self.critic)]


def test_manual_optimization_with_two_optimizers() -> None:
    model = Adversarial()
    report = fit(model).report
    assert (report.steps, report.measured, report.step) == (4, 4, 8)
    assert list(report) == ["generator.fc1", "generator.fc2", "critic.0", "critic.2"]
    assert rows(report, "critic.0") == 3 * 32
    assert rows(report, "generator.fc1") == 2 * 32
    assert len(model.norms) == 8
    for name, norms in model.norms.items():
        expected = math.sqrt(sum(norm**2 for norm in norms) / len(norms))
        assert float(report.parameters[name]["gradient_norm"]) == pytest.approx(expected, rel=1e-6), name
    for name in report:
        assert (report[name]["gradient_flow"] > 0).any(), name
    assert "no_gradient" not in {f.condition for f in report.findings}


def gradient_numbers(net: nn.Module, data: Any, **options: Any) -> dict[str, Tensor]:
    """Every number on gradients and the loss, of a run that leaves the weights where they are."""
    torch.manual_seed(1)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    report = fit(Learner(net, lr=0.0), data, measures="full", **options).report
    numbers = {name: report.run[name] for name in ("train_loss", "global_gradient_norm")}
    for name, layer in report.items():
        for measure in ("gradient_flow", "gradient_variance", "gradient_pass_rate"):
            numbers[f"{name} {measure}"] = layer[measure]
    for name, parameter in report.parameters.items():
        numbers[f"{name} gradient_norm"] = parameter["gradient_norm"]
    assert len(numbers) == 2 + 2 * 3 + 4
    return numbers


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    def numbers(batch: int, accumulate: int) -> dict[str, Tensor]:
        data = make_data(rows=64, batch=batch, dtype=torch.float64)
        return gradient_numbers(MLP().double(), data, accumulate_grad_batches=accumulate)

    torch.testing.assert_close(numbers(8, 2), numbers(16, 1), rtol=1e-9, atol=0.0)


def half_precision(**options: Any) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", **options))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_loss_scale_does_not_show(accumulate: int) -> None:
    plain = gradient_numbers(MLP(), make_data(), accumulate_grad_batches=accumulate)
    scaled = gradient_numbers(
        MLP(), make_data(), accumulate_grad_batches=accumulate, plugins=[half_precision(init_scale=1024.0)]
    )
    torch.testing.assert_close(scaled, plain, rtol=0.02, atol=2e-4)


def test_loss_scale_does_not_show_in_manual_optimization() -> None:
    torch.manual_seed(3)
    plain = Adversarial()
    scaled = Adversarial()
    scaled.load_state_dict(plain.state_dict())
    expected = fit(plain).report
    report = fit(scaled, plugins=[half_precision(init_scale=1024.0)]).report
    for name in expected:
        flow = expected[name]["gradient_flow"]
        torch.testing.assert_close(report[name]["gradient_flow"], flow, rtol=0.05, atol=1e-3)
    torch.testing.assert_close(report.run["train_loss"], expected.run["train_loss"], rtol=0.05, atol=1e-3)


def test_step_skipped_by_the_scaler_raises_no_alarm() -> None:
    plugin = half_precision(init_scale=2.0**24, backoff_factor=2.0**-14)
    net = MLP()
    before = [p.clone() for p in net.parameters()]
    scales = []
    model = Learner(net, at_step=lambda model, step: scales.append(plugin.scaler.get_scale()))
    report = fit(model, plugins=[plugin]).report
    assert scales == [2.0**24] + [2.0**10] * 3  # the first step overflowed, the others did not
    assert not all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    assert "non_finite" not in {f.condition for f in report.findings}
    assert torch.isfinite(report.run["global_gradient_norm"]).all()
    for layer in report.values():
        assert torch.isfinite(layer["gradient_flow"]).all()
        assert torch.isfinite(layer["gradient_norm"]).all()


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradient_norms_are_those_before_clipping(algorithm: str) -> None:
    plain = gradient_numbers(MLP(), make_data())
    clipped = gradient_numbers(MLP(), make_data(), gradient_clip_val=1e-4, gradient_clip_algorithm=algorithm)
    torch.testing.assert_close(clipped, plain, rtol=0.0, atol=0.0)


def test_gradient_of_a_sparse_embedding_is_seen() -> None:
    class Words(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.head(self.words(torch.arange(4))).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    report = fit(Words(), make_data(rows=240)).report
    assert float(report.parameters["words.weight"]["gradient_norm"]) > 0
    assert "no_gradient" not in {f.condition for f in report.findings}


class TwoOptimizers(LightningModule):
    """Trains by hand with two optimizers: on one loss, on a loss each, or in turns."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.way, self.a, self.b = way, nn.Linear(4, 4), nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        turn = {"together": [[0, 1]], "each its own": [[0], [1]], "in turns": [[batch_idx % 2]]}[self.way]
        for own in turn:
            self.manual_backward(self.b(torch.relu(self.a(torch.ones(2, 4)))).sum())
            for i in own:
                optimizers[i].step()
            self.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 1e-3) for part in (self.a, self.b)]


@pytest.mark.parametrize(("way", "adversarial"), [("together", False), ("each its own", True), ("in turns", True)])
def test_two_optimizers_are_adversaries_where_each_has_a_loss(way: str, adversarial: bool) -> None:
    seen: list[bool] = []

    class Watch(NeuronHealth):
        def on_train_batch_end(self, *args: Any) -> None:
            super().on_train_batch_end(*args)
            seen.append(self._monitor.progress.adversarial)

    make_trainer(Watch(every_n_steps=1, sinks=[]), max_epochs=1).fit(
        TwoOptimizers(way), DataLoader(torch.zeros(6, 1), 2)
    )
    assert seen[-1] is adversarial
