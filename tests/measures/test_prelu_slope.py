"""prelu_slope: the mean of the learned slopes."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_neurohealth import Monitor
from tests.measures.harness import assert_close, layer
from tests.measures.weights import measured


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("slopes", [[0.25], [0.5, -0.25, 0.0, 2.0]])
def test_mean(slopes: list[float], dtype: torch.dtype, ranks: int) -> None:
    parameter = torch.tensor(slopes, dtype=dtype)
    assert_close(measured("prelu_slope", layer(4), ranks, slope_parameter=parameter), sum(slopes) / len(slopes))


def test_what_is_not_finite_shows() -> None:
    assert np.isnan(measured("prelu_slope", layer(2), slope_parameter=torch.tensor([0.25, torch.nan])))


def test_in_a_network_as_it_is_when_the_window_closes() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.PReLU(3), nn.Flatten(), nn.Linear(48, 4), nn.PReLU(), nn.Linear(4, 1))
    monitor = Monitor(net, every_n_steps=1, measures=["prelu_slope", "prelu_slope_std", "on_rate"])
    for step in range(3):
        with monitor:
            net(torch.ones(2, 2, 6, 6)).sum().backward()
        with torch.no_grad():
            net[1].weight.copy_(torch.tensor([0.0, 1.0, 5.0]) + step)
            net[4].weight.fill_(-0.5)
    report = monitor.close()
    assert report is not None
    assert_close(report["0"]["prelu_slope"], 4)
    assert_close(report["0"]["prelu_slope_std"], np.std([0, 1, 5]))
    assert_close(report["3"]["prelu_slope"], -0.5)
    assert_close(report["3"]["prelu_slope_std"], 0)
    assert "prelu_slope" not in report["5"]


class Weighted(nn.Tanh):
    """A tanh that holds a parameter which has nothing to do with a slope."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


def test_only_a_prelu_has_learned_slopes() -> None:
    net = nn.Sequential(nn.Linear(3, 4), Weighted(), nn.Linear(4, 4), nn.PReLU(4), nn.Linear(4, 1))
    monitor = Monitor(net, measures=["prelu_slope", "prelu_slope_std", "on_rate"])
    with monitor:
        net(torch.ones(2, 3)).sum().backward()
    report = monitor.close()
    assert report is not None
    assert [name for name in report if "prelu_slope" in report[name]] == ["2"]
