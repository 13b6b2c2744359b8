"""BoundCounts: rows on which a lies at an end of its activation's range."""

import pytest
import torch
from torch import nn

from lightning_neurohealth.parameters import Run
from lightning_neurohealth.statistics.bound_counts import BoundCounts
from tests.measures.harness import CPU, Batches, layer
from tests.statistics.filled import filled


def test_both_ends(batches: Batches) -> None:
    activation = batches.map(lambda z: torch.tanh(2 * z))
    statistic = filled(BoundCounts(layer(batches.neurons, nn.Tanh())), activation)
    assert statistic.low.tolist() == [sum(a <= -0.99 for a in neuron) for neuron in activation.rows.T]
    assert statistic.high.tolist() == [sum(a >= 0.99 for a in neuron) for neuron in activation.rows.T]


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
