"""Histogram: rows in fixed bins, neuron by neuron."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_neurohealth.statistics.histogram import Histogram
from tests.measures.harness import Batches, layer
from tests.statistics.filled import filled


@pytest.mark.parametrize("module", [None, nn.ReLU(), nn.Tanh(), nn.LogSigmoid(), nn.ReLU6()], ids=str)
def test_counts_as_numpy_counts(batches: Batches, module: nn.Module | None) -> None:
    activations = batches.map(lambda z: z if module is None else module(z.float()).to(z.dtype))
    statistic = filled(Histogram(layer(batches.neurons, module)), activations)
    edges = np.asarray(statistic.edges)
    for neuron, counts in zip(activations.rows.T, statistic.counts, strict=True):
        expected = np.bincount(np.digitize(neuron, edges, right=True), minlength=statistic.bins)
        assert counts.tolist() == expected.tolist()


def test_bins_are_wide_enough_for_what_half_precision_holds() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        edges = Histogram(layer(1)).edges
        assert len(edges.to(dtype).unique()) == len(edges)


def test_ends_and_what_is_not_finite() -> None:
    statistic = Histogram(layer(2, nn.Tanh()))
    statistic.update(torch.tensor([[-1.0, torch.nan], [1.0, torch.inf], [torch.nan, -torch.inf]]))
    assert statistic.counts[:, 0].tolist() == [1, 1]
    assert statistic.counts[:, -1].tolist() == [1, 1]
    assert statistic.counts.sum() == 4
    assert statistic.rows == 3


def test_views_of_any_stride() -> None:
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    view, copy = Histogram(layer(3)), Histogram(layer(3))
    view.update(x[:, ::2])
    copy.update(x[:, ::2].clone())
    assert torch.equal(view.counts, copy.counts)
