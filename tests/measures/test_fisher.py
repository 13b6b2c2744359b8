"""fisher: the sum of squared gradients of a neuron's weights and bias, each measured step 0.9 of the next."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


def norms(gradient: Tensor) -> Tensor:
    """As the signal arrives: one norm a neuron."""
    return torch.from_numpy(np.linalg.norm(rows(gradient), axis=1)).view(1, -1, 1)


@every_weight
def test_faded_sum_over_faded_steps(weight: Tensor, ranks: int) -> None:
    gradients = [weight, -3 * weight, weight.cos()]
    total, steps = np.zeros(len(weight)), 0.0
    for gradient in gradients:
        total, steps = 0.9 * total + (rows(gradient) ** 2).sum(1), 0.9 * steps + 1
    found = measured("fisher", layer_of(weight), ranks, neuron_gradient=[norms(g) for g in gradients])
    assert_close(found, total / steps)


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_constant_gradient_shows_in_full_from_the_first_step(steps: int) -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert_close(measured("fisher", layer_of(gradient), neuron_gradient=[norms(gradient)] * steps), [25, 0])


def test_a_broken_neuron_is_alone_with_it() -> None:
    gradient = torch.tensor([[3.0, 4.0], [torch.nan, 1.0], [torch.inf, 1.0]])
    found = measured("fisher", layer_of(gradient), neuron_gradient=norms(gradient))
    np.testing.assert_equal(found, [25, np.nan, np.inf])


@pytest.mark.parametrize("bias", [True, False])
def test_of_all_parameters_of_a_neuron(bias: bool) -> None:
    net = nn.Sequential(nn.Conv1d(2, 3, 2, bias=bias), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2, bias=bias)).double()
    monitor = Monitor(net, measures=["fisher"])
    with monitor:
        net(torch.randn(5, 2, 4, dtype=torch.float64)).square().sum().backward()
    report = monitor.close()
    for name in ("0", "3"):
        expected = sum((rows(p.grad.unsqueeze(-1)) ** 2).sum(1) for p in net[int(name)].parameters())
        assert_close(report[name]["fisher"], expected)


def test_nothing_is_said_of_a_window_without_gradients() -> None:
    """The average goes on, but of what was not seen there is no number."""
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(5, 3)
    monitor = Monitor(net, every_n_steps=1, measures=["fisher", "gradient_flow", "on_rate"])
    found = []
    for trained in (True, False, True):
        net.requires_grad_(trained).zero_grad()
        with monitor:
            out = net(x)
            if trained:
                out.sum().backward()
        found.append(monitor.close())
    shown = [sorted(report["0"]) for report in found]
    assert shown == [["fisher", "gradient_flow", "on_rate"], ["on_rate"], ["fisher", "gradient_flow", "on_rate"]]
    # weights stood still, so the average over steps 1 and 3 is that of either
    for measure in ("fisher", "gradient_flow"):
        torch.testing.assert_close(found[2]["0"][measure], found[0]["0"][measure])
