"""The numbers of a measure are the same whether its layers are taken together or one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import alike
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import Measure, all_measures
from lightning_neurohealth.measuring import Numbers, measure_all
from lightning_neurohealth.parameters import Run
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.magnitude import Magnitude
from tests.measures.harness import CPU, layer, parameters

OF_LAYERS = [measure for measure in all_measures().values() if measure.subject == "layer"]
SPECTRAL = {"effective_rank", "stable_rank"}
"""A matrix that is not finite has no spectrum, so that they have to look first."""
SUMS_IN_ANOTHER_ORDER = {"fitness_variance"}
WIDTHS = (5, 1, 5, 130)
EACH = 4


def _layers() -> dict[str, Layer]:
    """Some of each width in a row, so that most have one of their kind behind them."""
    facts = {"parts": ("a", "b", "c", "d", "e"), "places": 5, "nonnegative": True}
    kinds = [layer(neurons, nn.Tanh(), fan_in=4, fan_out=3, **facts) for neurons in WIDTHS]
    layers = {}
    for block, kind in enumerate(kinds):
        for place in range(EACH):
            own = Layer(**{**vars(kind), "name": f"{block}.{place}"})
            own.function = kinds[0].function
            layers[own.name] = own
    layers["0.2"].fan_in = 7
    return layers


def _rows(place: int, step: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers around 0, some exactly; of one layer all are, one has NaN and infinity in it, one has nothing at all."""
    rows = torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) > 0.2)
    if place == 1:
        rows *= 0.0
    if place == 2 and step == 1:
        rows.view(-1)[0], rows.view(-1)[-1] = math.nan, math.inf
    return rows[:0] if place == 3 else rows


def _books(measure: Measure, layers: dict[str, Layer]) -> Ledger:
    generator, ledger = torch.Generator().manual_seed(0), Ledger([measure])
    for subject in layers.values():
        ledger.open(subject, "layer")
    for step, rows in enumerate((7, 1, 3)):
        ledger.step = step
        for place, subject in enumerate(layers.values()):
            for signal in measure.needs:
                across = 5 if signal in (Signal.MIXTURE, Signal.LEARNED_SHAPE) else subject.neurons
                ledger.take(subject, signal, _rows(place, step, (rows, across, 1), generator))
        ledger.fade()
        ledger.commit()
    ledger.settle()
    return ledger


def _measured(measure: Measure, ledger: Ledger, layers: dict[str, Layer]) -> Numbers:
    run, table = Run(CPU), parameters()
    return measure_all([measure], {run: {}, table: {}, **ledger.books}, layers, table, run)


@pytest.mark.parametrize("measure", OF_LAYERS, ids=lambda m: m.name)
def test_together_as_one_by_one(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = _layers()
    ledger = _books(measure, layers)
    monkeypatch.setattr(alike, "LEAST", len(layers) + 1)
    single = _measured(measure, ledger, layers)
    monkeypatch.setattr(alike, "LEAST", 2)
    together = _measured(measure, ledger, layers)
    assert not single.failed
    assert not together.failed
    assert [*together.layers] == [*single.layers]
    without = {"0.3", "0.2", "3.3"} if measure.of_next else {"0.3"}  # rows, of its own or behind it
    assert single.layers.keys() == layers.keys() - without
    tolerance = 1e-12 if measure.name in SUMS_IN_ANOTHER_ORDER else 0.0
    for name, of_one in single.layers.items():
        (value,), (expected,) = together.layers[name].values(), of_one.values()
        assert value.dtype == expected.dtype
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=0.0, equal_nan=True)
        assert value.untyped_storage().nbytes() == value.nbytes, "a report would hold all layers for the sake of one"


@pytest.mark.parametrize("measure", OF_LAYERS, ids=lambda m: m.name)
def test_one_call_does_for_all_that_are_alike(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = _layers()
    ledger, calls = _books(measure, layers), []
    compute = type(measure).compute
    monkeypatch.setattr(alike, "LEAST", 2)
    monkeypatch.setattr(type(measure), "compute", lambda *args, **asked: (calls.append(1), compute(*args, **asked))[1])
    found = _measured(measure, ledger, layers)
    assert (len(calls) < len(found.layers)) == (measure.name not in SPECTRAL)


class ByName(Measure):
    """Asks for what layers that are alike do not share."""

    def compute(self, activation: Magnitude, subject: Layer) -> Tensor:
        return activation.rows * len(subject.name)


class ByNumber(Measure):
    """Goes by what is known of one layer at a time only."""

    def compute(self, activation: Magnitude) -> Tensor:
        return activation.sums if activation.sums.sum() > 0 else activation.rows


@pytest.mark.parametrize("measure", [ByName(), ByNumber()], ids=lambda m: m.name)
def test_what_cannot_be_done_together_is_done_one_by_one(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "LEAST", 2)
    layers = _layers()
    found = _measured(measure, _books(measure, layers), layers)
    assert not found.failed
    assert [*found.layers] == [name for name in layers if name != "0.3"]
    assert found.layers["0.1"][measure.name].shape == ()


def test_only_alike_layers_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "LEAST", 2)
    layers = _layers()
    measure = all_measures()["gradient_variance_ratio"]
    found, others = alike.grouped(layers, [_books(measure, layers).books[own] for own in layers.values()])
    # the last of a width has another one behind it, and the third of the first width is, or reads, another one
    assert [group.names for group in found] == [
        ["0.0", "2.0", "2.1", "2.2"],
        ["1.0", "1.1", "1.2"],
        ["3.0", "3.1", "3.2"],
    ]
    assert others == {"0.1", "0.2", "0.3", "1.3", "2.3", "3.3"}
