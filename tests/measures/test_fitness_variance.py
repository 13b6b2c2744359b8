"""fitness_variance: the population variance of fitness over the neurons of a layer."""

import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.test_fitness import example, worth
from tests.measures.weights import every_weight, layer_of, measured


@every_weight
def test_over_neurons(weight: Tensor, ranks: int) -> None:
    gradients, activations = example(weight)
    found = measured(
        "fitness_variance", layer_of(weight), ranks, weight=weight, weight_gradient=gradients, activation=activations
    )
    assert_close(found, worth(weight, gradients, activations).var(), rtol=1e-9)


def test_two_neurons() -> None:
    weight, activation = torch.tensor([[2.0], [0.5]]), torch.tensor([[[5.0], [2.5]]])  # worth 0.6 and 0.2
    found = measured(
        "fitness_variance", layer_of(weight), weight=weight, weight_gradient=0 * weight, activation=activation
    )
    assert_close(found, 0.04)
