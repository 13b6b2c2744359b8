"""init_scale: std(W) over that of the initialisation that suits the activation."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import init

from lightning_neurohealth import Monitor
from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_spread_beside_he(weight: Tensor, ranks: int) -> None:
    scale = measured("init_scale", layer_of(weight, nn.ReLU()), ranks, weight=weight)
    assert_close(scale, rows(weight).std() / math.sqrt(2 / weight[0].numel()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (60, 40, 5, 5)], ids=str)
@pytest.mark.parametrize(
    ("module", "gain"),
    [
        (nn.ReLU(), math.sqrt(2)),
        (nn.LeakyReLU(0.5), math.sqrt(2 / 1.25)),
        (nn.GELU(), math.sqrt(2)),
        (nn.SELU(), 1.0),
        (None, 1.0),
    ],
    ids=str,
)
def test_one_for_what_torch_makes_by_fan_in(shape: tuple[int, ...], module: nn.Module | None, gain: float) -> None:
    weight = torch.empty(shape)
    init.normal_(weight, std=gain / math.sqrt(init._calculate_correct_fan(weight, "fan_in")))
    assert_close(measured("init_scale", layer_of(weight, module), weight=weight), 1.0, rtol=0.02)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (60, 40, 5, 5)], ids=str)
@pytest.mark.parametrize(("module", "gain"), [(nn.Tanh(), 5 / 3), (nn.Sigmoid(), 1.0)], ids=str)
def test_one_for_what_torch_makes_by_both_fans(shape: tuple[int, ...], module: nn.Module, gain: float) -> None:
    weight = init.xavier_uniform_(torch.empty(shape), gain)
    assert_close(measured("init_scale", layer_of(weight, module), weight=weight), 1.0, rtol=0.02)


def test_equal_weights_have_no_scale_and_broken_ones_none_that_is_known() -> None:
    weight = torch.full((4, 3), 0.1)
    assert_close(measured("init_scale", layer_of(weight, nn.ReLU()), weight=weight), 0, atol=1e-7)
    weight[0, 0] = torch.nan
    assert np.isnan(measured("init_scale", layer_of(weight, nn.ReLU()), weight=weight))


def test_defaults_of_torch_in_a_network() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 200, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(200, 300))
    monitor = Monitor(net, measures=["init_scale", "on_rate"])
    with monitor:
        net(torch.randn(2, 8, 4, 4)).sum().backward()
    report = monitor.close()
    assert report is not None
    assert_close(report["0"]["init_scale"], math.sqrt(1 / 6), rtol=0.02)
    assert_close(report["4"]["init_scale"], math.sqrt(1 / 3), rtol=0.02)
