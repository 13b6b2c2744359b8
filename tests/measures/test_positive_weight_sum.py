"""positive_weight_sum: the sum of max(w, 0), plus b, where inputs are not negative."""

import numpy as np
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_what_weights_and_bias_can_reach(weight: Tensor, ranks: int) -> None:
    bias = torch.linspace(-2, 1, len(weight))
    layer = layer_of(weight, nn.ReLU(), nonnegative=True)
    reach = measured("positive_weight_sum", layer, ranks, weight=weight, bias=bias)
    assert_close(reach, [sum(w for w in n if w > 0) + b for n, b in zip(rows(weight), bias.tolist(), strict=True)])


def test_under_zero_without_positive_weights_no_input_makes_it_fire() -> None:
    weight, bias = torch.tensor([[-1.0, -0.5], [0.5, -3.0]]), torch.tensor([-0.25, -0.25])
    inputs = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    fires = (inputs @ weight.T + bias > 0).any(0)
    reach = measured("positive_weight_sum", layer_of(weight, nn.ReLU(), nonnegative=True), weight=weight, bias=bias)
    assert_close(reach, [-0.25, 0.25])
    assert fires.tolist() == [False, True]


def test_a_broken_neuron_is_alone_with_it() -> None:
    weight, bias = torch.tensor([[torch.nan, 1.0], [-torch.inf, 1.0], [torch.inf, 1.0]]), torch.zeros(3)
    reach = measured("positive_weight_sum", layer_of(weight, nonnegative=True), weight=weight, bias=bias)
    np.testing.assert_equal(reach, [np.nan, 1, np.inf])


def test_only_layers_that_read_nothing_negative_have_it() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    monitor = Monitor(net, measures=["positive_weight_sum", "on_rate"])
    with monitor:
        net(torch.ones(2, 3)).sum().backward()
    report = monitor.close()
    assert report is not None
    assert [name for name in report if "positive_weight_sum" in report[name]] == ["2"]
