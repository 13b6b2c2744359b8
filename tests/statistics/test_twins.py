"""Twins: the least distance to another neuron's rows, in shares of the larger of the two."""

import math

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.statistics.twins import NEIGHBOURS, Twins
from tests.measures.harness import assert_close, layer


def least(vectors: Tensor) -> Tensor:
    """Neurons first, as ``[neurons, rows]``."""
    statistic = Twins(layer(len(vectors)))
    statistic.update(vectors.T)
    return statistic.least


def pair_by_pair(vectors: Tensor) -> Tensor:
    vectors = vectors.double()
    norms = vectors.norm(dim=1)
    apart = (vectors[:, None] - vectors[None]).norm(dim=2) / torch.maximum(norms[:, None], norms[None])
    return apart.fill_diagonal_(1).amin(1).clamp_max(1)


@pytest.mark.parametrize("neurons", [2, 3, NEIGHBOURS + 1])
def test_few_neurons_are_compared_pair_by_pair(neurons: int) -> None:
    vectors = torch.randn(neurons, 7, generator=torch.Generator().manual_seed(0)) + 1
    assert_close(least(vectors), pair_by_pair(vectors), rtol=1e-6)


def test_finds_near_copies_among_many() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2000, 50, generator=generator)
    vectors[1000:1100] = vectors[:100] + 1e-3 * torch.randn(100, 50, generator=generator)
    found, exact = least(vectors), pair_by_pair(vectors)
    assert (found >= exact * (1 - 1e-6)).all()
    copies = [*range(100), *range(1000, 1100)]
    assert_close(found[copies], exact[copies], rtol=1e-3)
    assert found[exact > 0.1].min() > 0.1


def test_tells_a_copy_from_a_mirror_image_and_from_another_size() -> None:
    one, other = torch.tensor([[1.0, -2.0, 0.5], [2.0, 1.0, 0.0]])
    assert_close(least(torch.stack([one, one])), [0, 0])
    assert_close(least(torch.stack([one, -one])), [1, 1])
    assert_close(least(torch.stack([other, 2 * other])), [0.5, 0.5], rtol=1e-6)


def test_all_alike() -> None:
    assert_close(least(torch.full((50, 9), 0.3)), [0.0] * 50)


def test_alone_silent_and_broken() -> None:
    assert least(torch.tensor([[1.0, 2.0]])).tolist() == [1]
    vectors = torch.tensor([[0.0, 0.0], [1.0, 2.0], [math.nan, 1.0], [0.0, 0.0], [1.0, 2.0], [math.inf, 1.0]])
    assert_close(least(vectors), [1, 0, 1, 1, 0, 1])


def test_the_least_of_several_pieces_counts() -> None:
    statistic = Twins(layer(2))
    statistic.update(torch.tensor([[1.0, 0.5], [0.0, 0.0]]))
    statistic.update(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    assert_close(statistic.least, [0.5, 0.5])
