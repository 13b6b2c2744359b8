"""Rows: sums of large tensors, against the same in float64 by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_neurohealth.statistics.rows import ROOM, Rows

SHAPES = {
    "neurons last": (700, 60, 1),
    "several blocks": (3000, 100, 1),
    "space last": (24, 40, 50),
    "several blocks of space": (1, 3, 120_000),
}


def large(shape: tuple[int, int, int], strided: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    outer, neurons, inner = shape
    whole = torch.randn(outer * (2 if strided else 1), neurons, inner, generator=generator)
    return whole[::2] if strided else whole


def by_neuron(x: Tensor) -> np.ndarray:
    return x.double().movedim(1, 2).reshape(-1, x.shape[1]).numpy()


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_sums(shape: tuple[int, int, int], strided: bool) -> None:
    x = large(shape, strided)
    rows, expected = Rows(x), by_neuron(x)
    sums, squares, within = (found.numpy() for found in rows.moments())
    size = np.abs(expected).sum(0)
    np.testing.assert_allclose(sums, expected.sum(0), atol=1e-6 * size.max())
    np.testing.assert_allclose(squares, (expected**2).sum(0), rtol=1e-5)
    np.testing.assert_allclose(within, expected.var(0) * len(expected), rtol=1e-5)
    np.testing.assert_allclose(rows.magnitudes().numpy(), size, rtol=1e-5)
    assert rows.counted(torch.gt, 0.5).tolist() == (expected > 0.5).sum(0).tolist()
    assert rows.counted(torch.le, 0.5).tolist() == (expected <= 0.5).sum(0).tolist()
    assert rows.near(0.1).tolist() == (np.abs(expected) <= 0.1).sum(0).tolist()
    assert rows.passing()[1] == len(expected)
    assert rows.non_finite() is None
    total, nonzero = rows.total_and_nonzero(torch.relu)
    np.testing.assert_allclose(total.numpy(), np.maximum(expected, 0).sum(0), rtol=1e-5)
    assert nonzero.tolist() == (expected > 0).sum(0).tolist()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_large_mean_hides_no_spread(shape: tuple[int, int, int]) -> None:
    x = large(shape) * 1e-2 + 100
    expected = by_neuron(x)
    np.testing.assert_allclose(Rows(x).moments()[2].numpy(), expected.var(0) * len(expected), rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_constant_has_next_to_no_spread(shape: tuple[int, int, int]) -> None:
    rows = Rows(torch.full(shape, 0.1))
    assert (rows.moments()[2] / rows.count).sqrt().max() <= 1e-6 * 0.1


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_what_is_not_finite_is_counted_and_does_not_spread(shape: tuple[int, int, int]) -> None:
    x = large(shape)
    x[0, 1, 0] = torch.nan
    x[-1, 2, -1] = torch.inf
    rows = Rows(x)
    bad = rows.non_finite()
    assert bad is not None
    assert bad.nonzero().flatten().tolist() == [1, 2]
    assert bad.sum() == 2
    assert rows.moments()[2][0].isfinite()
    assert rows.counted(torch.le, 0.0)[1] == (by_neuron(x)[:, 1] <= 0).sum()


def test_rows_without_any_gradient_are_not_live() -> None:
    x = large(SHAPES["neurons last"])
    x[10:30] = 0
    assert Rows(x).passing()[1] == 680
    assert Rows(x[:20]).passing()[1] == 10


def test_what_is_never_negative_needs_no_absolute_value() -> None:
    x = large(SHAPES["neurons last"]).relu()
    known, unknown = Rows(x, nonnegative=True), Rows(x)
    torch.testing.assert_close(known.magnitudes(), unknown.magnitudes(), rtol=1e-6, atol=0.0)
    assert known.near(1e-8).tolist() == unknown.near(1e-8).tolist() == (x == 0).sum((0, 2)).tolist()


def test_small_tensors_are_summed_in_double_precision() -> None:
    x = large((100, 30, 1))
    assert x.numel() <= ROOM
    np.testing.assert_allclose(Rows(x).sums().numpy(), by_neuron(x).sum(0), rtol=1e-13, atol=1e-13)
