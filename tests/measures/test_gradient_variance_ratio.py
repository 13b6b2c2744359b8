"""gradient_variance_ratio: variance of g of a layer over that of the next one in the order of execution."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_neurohealth import Monitor
from tests.measures.harness import assert_close


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_against_autograd_over_uneven_batches(scale: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1), nn.Tanh(), nn.Linear(1, 2))
    with torch.no_grad():
        net[2].weight.mul_(scale)
    monitor = Monitor(net, every_n_steps=1, measures=["gradient_variance_ratio", "gradient_variance"])
    gradients: list[list[np.ndarray]] = [[], [], []]
    for rows in (5, 1, 8):
        x = torch.randn(rows, 3)
        with monitor:
            net(x).square().sum().backward()
        first = net[1](net[0](x)).detach().requires_grad_()
        second = net[3](net[2](first))
        out = net[4](second)
        for found, g in zip(gradients, torch.autograd.grad(out.square().sum(), [first, second, out]), strict=True):
            found.append(g.double().numpy().ravel())
    report = monitor.close()
    monitor.remove()
    assert report is not None
    one, two, three = (np.concatenate(found).var() for found in gradients)
    assert_close(report["0"]["gradient_variance_ratio"], one / two, rtol=1e-5)
    assert_close(report["2"]["gradient_variance_ratio"], two / three, rtol=1e-5)
    assert "gradient_variance_ratio" not in report["4"]


def test_nan_where_the_next_layer_has_no_gradient() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    monitor = Monitor(net, every_n_steps=1, measures=["gradient_variance_ratio"])
    with monitor:
        (net(torch.ones(5, 3)) * 0).sum().backward()
    report = monitor.close()
    monitor.remove()
    assert report is not None
    assert report["0"]["gradient_variance_ratio"].isnan()
