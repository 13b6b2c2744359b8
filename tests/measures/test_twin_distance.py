"""twin_distance: how far a neuron's weights are from another's, in shares of the larger."""

import numpy as np
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


def nearest(weight: np.ndarray) -> list[float]:
    """Pair by pair; there are at most five neurons."""
    found = []
    for i, one in enumerate(weight):
        others = [other for j, other in enumerate(weight) if j != i]
        sizes = [max(np.linalg.norm(one), np.linalg.norm(other)) for other in others]
        apart = [np.linalg.norm(one - other) / size if size else 1.0 for other, size in zip(others, sizes, strict=True)]
        found.append(min([1.0, *apart]))
    return found


@every_weight
def test_pair_by_pair(weight: Tensor, ranks: int) -> None:
    assert_close(measured("twin_distance", layer_of(weight), ranks, weight=weight), nearest(rows(weight)), rtol=1e-6)


def test_copies_of_a_convolution_are_found() -> None:
    weight = torch.randn(32, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[20:] = weight[3]
    apart = measured("twin_distance", layer_of(weight), weight=weight)
    assert (apart[[3, *range(20, 32)]] == 0).all()
    assert (np.delete(apart, [3, *range(20, 32)]) > 0.5).all()
