"""TailCounts: rows on which z lies in the tails of its activation."""

from torch import nn

from lightning_neurohealth.parameters import Run
from lightning_neurohealth.statistics.tail_counts import TailCounts
from tests.measures.harness import CPU, Batches, layer
from tests.statistics.filled import filled


def test_both_tails(batches: Batches) -> None:
    statistic = filled(TailCounts(layer(batches.neurons, nn.Tanh())), batches)
    assert statistic.tail.tolist() == [sum(abs(z) > 2.5 for z in neuron) for neuron in batches.rows.T]


def test_applies_where_there_is_an_activation() -> None:
    assert TailCounts.applies(layer(3, nn.GELU()))
    assert not TailCounts.applies(layer(3))
    assert not TailCounts.applies(Run(CPU))
