"""Curve: sums over ranks of what an activation gives at each place."""

import torch
from torch import nn

from lightning_neurohealth.statistics.curve import Curve
from tests.measures.harness import assert_close, layer, run

LEARNED = layer(7, nn.Tanh(), places=4)


def test_has_a_number_for_each_place_whatever_the_neurons() -> None:
    shape = torch.tensor([-1.0, 0.0, 0.5, 2.0]).reshape(1, 4, 1)
    statistic, other = Curve(LEARNED), Curve(LEARNED)
    statistic.update(shape)
    other.update(shape)
    statistic.merge({name: getattr(other, name) for name in other.kinds})
    assert_close(statistic.values, [-1.0, 0.0, 0.5, 2.0], rtol=1e-7)


def test_only_where_a_shape_is_learned() -> None:
    assert Curve.applies(LEARNED)
    assert not Curve.applies(layer(7, nn.Tanh()))
    assert not Curve.applies(run())
