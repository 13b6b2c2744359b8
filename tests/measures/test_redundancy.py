"""redundancy: the largest abs(cosine) between a neuron's weights and another's."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_neurohealth.statistics import cosines
from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


def most_alike(weight: np.ndarray) -> list[float]:
    """Pair by pair."""
    found = []
    for i, one in enumerate(weight):
        others = [other for j, other in enumerate(weight) if j != i and other.any() and one.any()]
        found.append(max((abs(one @ o) / np.linalg.norm(one) / np.linalg.norm(o) for o in others), default=0.0))
    return found


@every_weight
@pytest.mark.parametrize("elements", [1 << 22, 10, 1])
def test_pair_by_pair(weight: Tensor, ranks: int, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "ELEMENTS", elements)
    alike = measured("redundancy", layer_of(weight), ranks, weight=weight)
    assert_close(alike, most_alike(rows(weight)), rtol=1e-5, atol=1e-6)


def test_duplicates_whatever_their_scale_and_sign() -> None:
    one, other = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 1.0, 0.0])  # at right angles
    weight = torch.stack([one, other, -1e-20 * one, 1e20 * other, torch.zeros(3)])
    assert_close(measured("redundancy", layer_of(weight), weight=weight), [1, 1, 1, 1, 0], rtol=1e-6)


def test_a_broken_neuron_is_alone_with_it() -> None:
    weight = torch.tensor([[3.0, 4.0], [torch.nan, 1.0], [torch.inf, 1.0], [4.0, 3.0]])
    alike = measured("redundancy", layer_of(weight), weight=weight)
    np.testing.assert_allclose(alike, [0.96, np.nan, np.nan, 0.96], rtol=1e-6)


def test_full_precision_where_products_are_run_in_half() -> None:
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alike = measured("redundancy", layer_of(weight), weight=weight)
    assert_close(alike, most_alike(rows(weight)), rtol=1e-5)
