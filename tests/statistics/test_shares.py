"""Shares: sums over ranks of the shares of each function in a mixture."""

import torch
from torch import nn

from lightning_neurohealth.statistics.shares import Shares
from tests.measures.harness import assert_close, layer, run

MIXTURE = layer(7, nn.Tanh(), parts=("relu", "tanh", "identity"))


def test_has_a_number_for_each_function_whatever_the_neurons() -> None:
    statistic = Shares(MIXTURE)
    statistic.update(torch.tensor([[[0.5], [0.3], [0.2]]]))
    other = Shares(MIXTURE)
    other.update(torch.tensor([[[0.5], [0.3], [0.2]]]))
    statistic.merge({name: getattr(other, name) for name in other.kinds})
    assert_close(statistic.shares, [0.5, 0.3, 0.2], rtol=1e-7)


def test_only_for_mixtures() -> None:
    assert Shares.applies(MIXTURE)
    assert not Shares.applies(layer(7, nn.Tanh()))
    assert not Shares.applies(run())
