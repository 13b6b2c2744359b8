"""Slopes: the sum of abs(f'(z))."""

from torch import nn

from lightning_neurohealth.parameters import Run
from lightning_neurohealth.statistics.slopes import Slopes
from tests.measures.harness import CPU, Batches, assert_close, layer
from tests.statistics.filled import filled


def test_relu(batches: Batches) -> None:
    statistic = filled(Slopes(layer(batches.neurons, nn.ReLU())), batches)
    positive = [sum(z > 0 for z in neuron) for neuron in batches.rows.T]
    assert statistic.sums.tolist() == positive


def test_a_falling_function_has_a_slope_too(batches: Batches) -> None:
    batches = batches.map(lambda z: z.float())
    statistic = filled(Slopes(layer(batches.neurons, nn.LeakyReLU(-0.5))), batches)
    assert_close(statistic.sums, [sum(1 if z > 0 else 0.5 for z in neuron) for neuron in batches.rows.T])


def test_applies_where_there_is_an_activation() -> None:
    assert Slopes.applies(layer(3, nn.ReLU()))
    assert not Slopes.applies(layer(3))
    assert not Slopes.applies(Run(CPU))
