"""From statistics to numbers: what one measure's fault costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.measuring import measure_all
from lightning_neurohealth.parameters import Run
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.magnitude import Magnitude
from tests.measures.harness import CPU, layer, parameters


class Picky(Measure):
    """Fails on layers of three neurons."""

    def compute(self, activation: Magnitude, subject: object) -> Tensor:
        if subject.neurons == 3:
            raise ValueError(f"not {subject.name}")
        return activation.sums


class Plain(Picky):
    """Does not ask for the subject, though its base does."""

    def compute(self, activation: Magnitude) -> Tensor:
        return activation.sums / activation.rows


def test_a_measure_that_fails_on_one_layer_is_kept_of_all_others() -> None:
    layers = {name: layer(width) for name, width in (("a", 2), ("b", 3), ("c", 4), ("d", 3))}
    for name, subject in layers.items():
        subject.name = name
    run, table, measures = Run(CPU), parameters(), [Picky(), Plain()]
    ledger = Ledger(measures)
    for subject in layers.values():
        ledger.take(subject, Signal.ACTIVATION, torch.ones(5, subject.neurons, 1))
    ledger.commit()
    numbers = measure_all(measures, {run: {}, table: {}, **ledger.books}, layers, table, run)
    assert {name: set(found) for name, found in numbers.layers.items()} == {
        "a": {"picky", "plain"},
        "b": {"plain"},
        "c": {"picky", "plain"},
        "d": {"plain"},
    }
    assert numbers.failed == {"picky": "the measure failed on b: ValueError('not b')"}


@pytest.mark.parametrize(("measure", "wanted"), [(Picky, True), (Plain, False)])
def test_only_who_asks_for_the_subject_gets_it(measure: type[Measure], wanted: bool) -> None:
    assert measure.wants_subject is wanted


def test_a_model_without_layers_has_no_numbers_of_any() -> None:
    run, table = Run(CPU), parameters()
    assert measure_all([Plain()], {run: {}, table: {}}, {}, table, run).layers == {}
