"""A long run stays in bounded memory, and keeps what was found and how its layers were."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from lightning_neurohealth import Monitor, Report, Severity
from lightning_neurohealth.reporting.archive import to_document
from lightning_neurohealth.reporting.history import History
from lightning_neurohealth.reporting.thin_layers import Row
from lightning_neurohealth.reporting.thinning import RECENT, Thinner
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from tests.training import MLP

WINDOWS = 150
MEASURES = ["on_rate", "zero_rate", "activation_mean", "activation_std", "activation_rows", "slope", "train_loss"]


def tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)


def memory(report: Report) -> int:
    """Bytes of the storages behind all tensors of a report."""
    storages = {}
    for tensor in (*tensors(report.layers), *tensors(report.parameters), *tensors(report.run)):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())


def run(hidden: int, windows: int = WINDOWS) -> tuple[Monitor, list[Report]]:
    """A monitor after a long run with dead neurons, and a copy of each report as it was at first."""
    torch.manual_seed(0)
    net = MLP(hidden)
    with torch.no_grad():
        net.fc1.bias[: hidden // 2] = -100.0
    rules = [DeadNeurons(rows=20, grace=0)]
    monitor = Monitor(net, every_n_steps=1, window=1, measures=[*MEASURES, "weight_norm"], rules=rules)
    fresh = []
    for _ in range(windows):
        with monitor:
            loss = net(torch.randn(8, 4)).square().mean()
            loss.backward()
            monitor.record_loss(loss)
        report = monitor.report
        fresh.append(copy.copy(report))
    monitor.remove()
    return monitor, fresh


@pytest.fixture(scope="module")
def long_run() -> tuple[Monitor, list[Report]]:
    return run(hidden=64)


def test_memory_is_bounded(long_run: tuple[Monitor, list[Report]]) -> None:
    monitor, fresh = long_run
    whole = memory(fresh[0])
    assert whole > 64 * 6 * 8
    sizes = [memory(report) for report in monitor.reports]
    old = sizes[1 : WINDOWS - RECENT - 1]
    numbers = sum(len(layer) for layer in fresh[1].values()) + sum(map(len, fresh[1].parameters.values()))
    assert sizes[0] == whole
    assert set(sizes[WINDOWS - RECENT - 1 :]) == {whole}
    assert len(old) == WINDOWS - RECENT - 2
    assert set(old) == {4 * (numbers + len(fresh[1].run))}  # however many neurons there are


def test_more_neurons_cost_nothing_in_old_windows(long_run: tuple[Monitor, list[Report]]) -> None:
    wide, _ = run(hidden=256, windows=RECENT + 5)
    assert memory(wide.reports[1]) == memory(long_run[0].reports[1])


def test_old_windows_keep_findings_and_means(long_run: tuple[Monitor, list[Report]]) -> None:
    monitor, fresh = long_run
    for old, then in zip(monitor.reports[1:40], fresh[1:40], strict=True):
        assert old.facts() == then.facts()
        assert list(old) == list(then)
        for name, layer in then.items():
            thin = old[name]
            assert (thin.neurons, thin.activation, thin.function, thin.output, thin.severity) == (
                layer.neurons,
                layer.activation,
                layer.function,
                layer.output,
                layer.severity,
            )
            assert list(thin) == list(layer)
            for measure, values in layer.items():
                assert thin[measure].shape == ()
                torch.testing.assert_close(thin[measure], values.mean().float())
                assert thin.means[measure] == pytest.approx(layer.means[measure], rel=1e-6, nan_ok=True)
        for name, measures in then.parameters.items():
            assert {m: float(v) for m, v in old.parameters[name].items()} == pytest.approx(
                {m: float(v) for m, v in measures.items()}, rel=1e-6
            )
        assert float(old.run["train_loss"]) == pytest.approx(float(then.run["train_loss"].mean()), rel=1e-6)
    assert monitor.reports[30]["fc1"].severity is Severity.CRITICAL
    assert monitor.reports[30].findings[0].neurons == tuple(range(32))


def test_what_reads_reports_reads_thin_ones(long_run: tuple[Monitor, list[Report]]) -> None:
    monitor, _ = long_run
    old = monitor.reports[10]
    assert "dead_neurons" in str(old)
    with pytest.raises(KeyError, match="there are fc1, fc2"):
        old["fc3"]
    assert History.of(monitor.report).means("on_rate").shape == (WINDOWS, 2)
    chain = []
    current: Report | None = monitor.report
    while current is not None:
        chain.append(current)
        current = current.previous
    assert chain[::-1] == monitor.reports


def test_old_windows_are_read_at_once(long_run: tuple[Monitor, list[Report]], monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one, read = [], Row.__getitem__
    monkeypatch.setattr(Row, "__getitem__", lambda row, measure: (one_by_one.append(measure), read(row, measure))[1])
    document = to_document(long_run[0].report)
    assert one_by_one == ["train_loss"] * (WINDOWS - RECENT - 2)
    assert len(document["windows"]) == WINDOWS


def test_names_are_kept_once(long_run: tuple[Monitor, list[Report]]) -> None:
    first, second = long_run[0].reports[1].layers, long_run[0].reports[2].layers
    assert first.means.schema is second.means.schema
    assert first.layers is second.layers


def test_a_short_run_is_left_alone() -> None:
    monitor, fresh = run(hidden=4, windows=5)
    Thinner().thin(monitor.reports)
    assert [memory(r) for r in monitor.reports] == [memory(r) for r in fresh]


def test_a_model_of_many_neurons_keeps_fewer_windows_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    one = sum(values.nbytes for layer in run(8, 2)[1][1].values() for values in layer.values())
    monkeypatch.setattr("lightning_neurohealth.reporting.thinning.ROOM", 5 * one)
    reports = run(8, 12)[0].reports
    assert [report["fc1"]["on_rate"].numel() for report in reports] == [8] + 6 * [1] + 5 * [8]
    monkeypatch.setattr("lightning_neurohealth.reporting.thinning.ROOM", 0)
    reports = run(8, 12)[0].reports
    assert [report["fc1"]["on_rate"].numel() for report in reports] == [8] + 8 * [1] + 3 * [8]
