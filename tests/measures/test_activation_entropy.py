"""activation_entropy: the entropy of a histogram with fixed bins, in bits."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from tests.measures.harness import Batches, assert_close, compute, layer

HALF_OCTAVES = [2.0 ** (k / 2) for k in range(-16, 17)]
GRID = [-size for size in reversed(HALF_OCTAVES)] + HALF_OCTAVES


def bits(rows: np.ndarray, edges: list[float]) -> list[float]:
    """Counted one by one; an edge belongs to the bin under it."""
    found = []
    for neuron in rows.T:
        bins = Counter(sum(a > edge for edge in edges) for a in neuron)
        found.append(-sum(n / len(neuron) * math.log2(n / len(neuron)) for n in bins.values()))
    return found


def test_half_octaves_where_there_are_no_bounds(batches: Batches) -> None:
    assert_close(compute("activation_entropy", batches), bits(batches.rows, GRID), atol=1e-12)


@pytest.mark.parametrize(
    ("module", "edges"),
    [
        (nn.Tanh(), [-1 + i / 32 for i in range(1, 64)]),
        (nn.Sigmoid(), [i / 64 for i in range(1, 64)]),
        (nn.ReLU(), HALF_OCTAVES),
        (nn.LogSigmoid(), GRID[:33]),
        (nn.GELU(), [edge for edge in GRID if edge > -0.1699]),
    ],
    ids=str,
)
def test_bins_follow_the_bounds(batches: Batches, module: nn.Module, edges: list[float]) -> None:
    activations = batches.map(lambda z: module(z.double()).to(z.dtype))
    subject = layer(batches.neurons, module)
    assert_close(compute("activation_entropy", activations, subject), bits(activations.rows, edges), atol=1e-12)


def test_constant_is_nothing_and_all_bins_alike_are_all_bits() -> None:
    grid = (torch.arange(64.0) - 31.5).div(32).expand(3, 64).flatten()
    batch = torch.stack([grid, grid.sign() / 2, torch.full((192,), 0.3)], 1)
    assert_close(compute("activation_entropy", Batches((batch,)), layer(3, nn.Tanh())), [6, 1, 0])


def test_huge_tiny_and_broken() -> None:
    batch = torch.tensor([[torch.inf, 1e9, torch.nan, 1e-30], [1e30, -torch.inf, torch.nan, 0.0]])
    batch = torch.cat([batch, torch.tensor([[torch.nan] * 3 + [-1e-9]])])
    np.testing.assert_equal(compute("activation_entropy", Batches((batch,))), [0, 1, np.nan, 0])
