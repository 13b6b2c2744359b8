"""fitness: norms of weight and gradient and size of the activation, each beside its largest in the layer."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


def worth(weight: Tensor, gradients: list[Tensor], activations: list[Tensor]) -> np.ndarray:
    """Neuron by neuron."""
    norms = [np.linalg.norm(neuron) for neuron in rows(weight)]
    moves = [
        np.sqrt(sum((neuron**2).sum() for neuron in neurons)) for neurons in zip(*map(rows, gradients), strict=True)
    ]
    sizes = [
        np.mean(abs(np.concatenate([a[:, i].double().flatten() for a in activations]))) for i in range(len(weight))
    ]
    parts = [np.array(part) / (max(part) or 1.0) for part in (norms, moves, sizes)]
    return 0.4 * parts[0] + 0.4 * parts[1] + 0.2 * parts[2]


def example(weight: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of two steps, and uneven batches of activations."""
    generator = torch.Generator().manual_seed(1)
    sizes = torch.arange(1.0, len(weight) + 1).view(1, -1, 1)
    activations = [torch.randn(n, len(weight), 2, generator=generator) * sizes for n in (7, 1, 13)]
    return [weight.cos(), weight.sin() * 3], activations


@every_weight
def test_weighted_sum_of_three_parts(weight: Tensor, ranks: int) -> None:
    gradients, activations = example(weight)
    found = measured(
        "fitness", layer_of(weight), ranks, weight=weight, weight_gradient=gradients, activation=activations
    )
    assert_close(found, worth(weight, gradients, activations))


def test_a_part_that_is_zero_everywhere_counts_nothing() -> None:
    weight, silent = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.zeros(4, 2, 1)
    found = measured("fitness", layer_of(weight), weight=weight, weight_gradient=0 * weight, activation=silent)
    assert_close(found, [0.4, 0.08])


def test_what_is_not_finite_shows() -> None:
    weight, silent = torch.tensor([[torch.nan, 4.0], [0.0, 1.0]]), torch.zeros(4, 2, 1)
    assert np.isnan(
        measured("fitness", layer_of(weight), weight=weight, weight_gradient=weight, activation=silent)
    ).all()


@pytest.mark.parametrize("name", ["fitness", "fitness_mean", "fitness_max", "fitness_variance"])
def test_layers_without_one_of_the_three_have_none(name: str) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2))
    net[0].weight.requires_grad_(False)
    monitor = Monitor(net, measures=[name, "on_rate"])
    with monitor:
        net(torch.ones(2, 3)).sum().backward()
    report = monitor.close()
    assert report is not None
    assert [layer for layer in report if name in report[layer]] == ["4"]
