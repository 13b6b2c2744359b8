"""taylor: mean over samples of abs(sum over space of g * a)."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_neurohealth import Monitor
from tests.measures.harness import Batches, assert_close, compute


@pytest.mark.parametrize("space", [(), (4,), (3, 2), (2, 3, 2)])
def test_maps_count_as_a_whole(space: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    products = [torch.randn(n, 5, *space, generator=generator) for n in (7, 1, 13)]
    samples = [float(abs(sample[i].double().sum())) for i in range(5) for batch in products for sample in batch]
    expected = [sum(samples[i * 21 : (i + 1) * 21]) / 21 for i in range(5)]
    assert_close(compute("taylor", Batches(tuple(products), 1)), expected)


def test_tokens_count_one_by_one() -> None:
    product = torch.tensor([[[1.0, -2.0], [-1.0, 0.0]], [[3.0, 1.0], [1.0, 1.0]]])
    assert_close(compute("taylor", Batches((product,))), [6 / 4, 4 / 4])


def test_places_that_cancel_do_not_count_and_a_broken_neuron_is_alone_with_it() -> None:
    x = torch.tensor([[[1.0, -1.0], [1.0, 1.0], [torch.nan, 1.0]]])
    np.testing.assert_equal(compute("taylor", Batches((x,), 1)), [0, 2, np.nan])


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("space", [(), (3,), (4, 3), (2, 3, 2)], ids=str)
def test_first_order_effect_of_silencing_a_neuron(space: tuple[int, ...], last: bool) -> None:
    """The slope of a sample's loss as a gate in front of the neuron closes."""
    torch.manual_seed(0)
    kinds = [nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d]
    owner = kinds[len(space)](2, 5, *([1] if space else [])).double()
    net = nn.Sequential(owner, nn.Tanh(), nn.Flatten(), nn.LazyLinear(1).double())
    x = torch.randn(7, 2, *space).double()
    if last and len(space) >= 2:
        x = x.to(memory_format=torch.channels_last if len(space) == 2 else torch.channels_last_3d)
    net(x)
    monitor = Monitor(net, every_n_steps=1, measures=["taylor"])
    with monitor:
        net(x).square().sum().backward()
    report = monitor.close()
    assert report is not None

    def losses(gate: torch.Tensor) -> torch.Tensor:
        return net[2:](gate.view(5, *[1] * len(space)) * owner(x).tanh()).square().flatten()

    slopes = torch.autograd.functional.jacobian(losses, torch.ones(5).double())
    assert_close(report["0"]["taylor"], slopes.abs().mean(0), rtol=1e-9)


def test_halves_do_not_overflow() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)).half()
    for layer in (net[0], net[2]):
        nn.init.ones_(layer.weight)
    monitor = Monitor(net, every_n_steps=1, measures=["taylor"])
    monitor.intake.gradient_scale = 1 / 1024
    with monitor:
        (net(torch.full((1, 1), 100.0).half()).float() * 1024).sum().backward()
    report = monitor.close()
    assert report is not None
    assert_close(report["0"]["taylor"], [100])
