"""PositiveSums: the sum of max(x, 0) for layers that read nothing negative."""

from lightning_neurohealth.parameters import Run
from lightning_neurohealth.statistics.positive_sums import PositiveSums
from tests.measures.harness import CPU, Batches, assert_close, layer
from tests.statistics.filled import filled


def test_sum_of_what_is_positive(batches: Batches) -> None:
    statistic = filled(PositiveSums(layer(batches.neurons)), batches)
    assert_close(statistic.sums, [sum(x for x in neuron if x > 0) for neuron in batches.rows.T])


def test_applies_behind_a_layer_that_is_never_negative() -> None:
    subject = layer(3)
    assert not PositiveSums.applies(subject)
    subject.nonnegative = True
    assert PositiveSums.applies(subject)
    assert not PositiveSums.applies(Run(CPU))
