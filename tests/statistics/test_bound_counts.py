"""BoundCounts: rows on which a lies at an end of its activation's range."""

import pytest
import torch
from torch import nn

from lightning_neurohealth.parameters import Run
from lightning_neurohealth.statistics.bound_counts import BoundCounts, bound_counts
from tests.measures.harness import CPU, Batches, layer
from tests.statistics.filled import filled


def test_both_ends(batches: Batches) -> None:
    activation = batches.map(lambda z: torch.tanh(2 * z))
    statistic = filled(BoundCounts(layer(batches.neurons, nn.Tanh())), activation)
    assert statistic.low.tolist() == [sum(a <= -0.99 for a in neuron) for neuron in activation.rows.T]
    assert statistic.high.tolist() == [sum(a >= 0.99 for a in neuron) for neuron in activation.rows.T]


@pytest.mark.parametrize("cutoff", [0.6, 0.9, 0.999])
def test_from_another_cutoff_on(batches: Batches, cutoff: float) -> None:
    activation = batches.map(lambda z: torch.sigmoid(3 * z))
    statistic = filled(bound_counts(cutoff)(layer(batches.neurons, nn.Sigmoid())), activation)
    assert statistic.low.tolist() == [sum(a <= 1 - cutoff for a in neuron) for neuron in activation.rows.T]
    assert statistic.high.tolist() == [sum(a >= cutoff for a in neuron) for neuron in activation.rows.T]


def test_a_cutoff_is_a_kind() -> None:
    assert bound_counts(0.9) is bound_counts(0.9) is not bound_counts(0.95)
    assert bound_counts(0.99) is BoundCounts
    assert len({bound_counts(cutoff).__name__ for cutoff in (0.9, 0.95, 0.99)}) == 3


def test_an_end_that_is_a_dead_zone_does_not_count() -> None:
    statistic = BoundCounts(layer(4, nn.ReLU6()))
    statistic.update(torch.tensor([[0.0, 3.0, 5.999, 6.0]]))
    assert statistic.low.tolist() == [0, 0, 0, 0]
    assert statistic.high.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("module", [nn.Tanh(), nn.Sigmoid(), nn.ReLU6(), nn.Hardtanh(), nn.Softsign()], ids=str)
def test_applies_to_ranges_with_an_end(module: nn.Module) -> None:
    assert BoundCounts.applies(layer(3, module))


@pytest.mark.parametrize("module", [None, nn.ReLU(), nn.GELU(), nn.ELU(), nn.LeakyReLU()], ids=str)
def test_does_not_apply_to_others(module: nn.Module | None) -> None:
    assert not BoundCounts.applies(layer(3, module))
    assert not BoundCounts.applies(Run(CPU))
