"""Cosines: the largest abs(cosine) between one neuron's rows and another's."""

import math

import pytest
import torch

from lightning_neurohealth.statistics import cosines
from lightning_neurohealth.statistics.cosines import Cosines
from tests.measures.harness import assert_close, layer


def test_rows_are_one_vector_and_the_largest_of_several_pieces_counts() -> None:
    statistic = Cosines(layer(3))
    assert statistic.largest.tolist() == [-math.inf] * 3
    statistic.update(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]]))
    assert_close(statistic.largest, [0.6, 0.8, 0.8], rtol=1e-6)
    statistic.update(torch.tensor([[1.0, -2.0, 0.0]]))
    assert_close(statistic.largest, [1, 1, 0.8], rtol=1e-6)


@pytest.mark.parametrize("elements", [1, 7, 100, 1 << 22])
def test_blocks_make_no_difference(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0))
    vectors = x.movedim(1, 0).reshape(30, -1).double()
    expected = torch.cosine_similarity(vectors[:, None], vectors[None], dim=-1).abs().fill_diagonal_(0).amax(1)
    monkeypatch.setattr(cosines, "ELEMENTS", elements)
    statistic = Cosines(layer(30))
    statistic.update(x)
    assert_close(statistic.largest, expected, rtol=1e-5)


def test_alone_silent_and_broken() -> None:
    alone = Cosines(layer(1))
    alone.update(torch.tensor([[1.0], [2.0]]))
    assert alone.largest.tolist() == [0]
    several = Cosines(layer(4))
    several.update(torch.tensor([[0.0, 1.0, math.nan, -2.0], [0.0, 1.0, 0.0, -2.0]]))
    torch.testing.assert_close(several.largest, torch.tensor([0, 1, math.nan, 1]).double(), equal_nan=True)


def test_never_more_than_one() -> None:
    statistic = Cosines(layer(50))
    statistic.update(torch.rand(7, 1, generator=torch.Generator().manual_seed(0)).expand(7, 50))
    assert statistic.largest.max() <= 1
    assert statistic.largest.min() > 1 - 1e-6


def test_copies_are_told_from_near_copies() -> None:
    """Neurons that differ by a thousandth of their size have a cosine of 1 - 5e-7."""
    generator = torch.Generator().manual_seed(0)
    one, other, change = torch.randn(3, 20_000, 1, generator=generator)
    statistic = Cosines(layer(4))
    statistic.update(torch.cat([one, -3 * one, other, other + 1e-3 * change], 1))
    exact = torch.cosine_similarity(other.double(), (other + 1e-3 * change).double(), dim=0).item()
    assert_close(statistic.largest, [1, 1, exact, exact], rtol=1e-9)
    assert statistic.largest[2] < 1 - 4e-7
