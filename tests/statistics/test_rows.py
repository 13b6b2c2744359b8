"""Rows: sums of large tensors, against the same in float64 by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Partials, Statistic, reduced
from lightning_neurohealth.statistics.magnitude import Magnitude
from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts
from lightning_neurohealth.statistics.pass_counts import PassCounts
from lightning_neurohealth.statistics.rows import ROOM, Rows
from lightning_neurohealth.statistics.sign_counts import SignCounts
from lightning_neurohealth.statistics.slopes import Slopes
from tests.measures.harness import layer

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


def of(x: Tensor, *kinds: type[Statistic]) -> list[Partials]:
    """What each kind of statistic finds, piece by piece."""
    return reduced([kind(one(x.shape[1])) for kind in kinds], Rows(x), 0)


def one(neurons: int) -> Layer:
    return layer(neurons, nn.Tanh())


def numbers(found: object) -> np.ndarray:
    assert isinstance(found, Tensor)
    return found.numpy()


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_sums(shape: tuple[int, int, int], strided: bool) -> None:
    x = large(shape, strided)
    expected = by_neuron(x)
    moments, magnitude, signs, passed, bad, slopes = of(
        x, Moments, Magnitude, SignCounts, PassCounts, NonFiniteCounts, Slopes
    )
    size = np.abs(expected).sum(0)
    np.testing.assert_allclose(numbers(moments["sums"]), expected.sum(0), atol=1e-12 * size.max())
    np.testing.assert_allclose(numbers(moments["squares"]), (expected**2).sum(0), rtol=1e-12)
    np.testing.assert_allclose(numbers(moments["within"]), expected.var(0) * len(expected), rtol=1e-10)
    np.testing.assert_allclose(numbers(magnitude["sums"]), size, rtol=1e-12)
    assert numbers(signs["positive"]).tolist() == (expected > 0).sum(0).tolist()
    assert numbers(signs["zero"]).tolist() == (np.abs(expected) <= 1e-8).sum(0).tolist()
    assert numbers(passed["passed"]).tolist() == (expected != 0).sum(0).tolist()
    assert passed["live"] == len(expected)
    assert "bad" not in bad
    np.testing.assert_allclose(numbers(slopes["sums"]), (1 - np.tanh(expected) ** 2).sum(0), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_large_mean_hides_no_spread(shape: tuple[int, int, int]) -> None:
    x = large(shape) * 1e-2 + 100
    expected = by_neuron(x)
    (found,) = of(x, Moments)
    np.testing.assert_allclose(numbers(found["within"]), expected.var(0) * len(expected), rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_constant_has_next_to_no_spread(shape: tuple[int, int, int]) -> None:
    (found,) = of(torch.full(shape, 0.1), Moments)
    assert np.sqrt(numbers(found["within"]) / (shape[0] * shape[2])).max() <= 1e-6 * 0.1


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_what_is_not_finite_is_counted_and_does_not_spread(shape: tuple[int, int, int]) -> None:
    x = large(shape)
    x[0, 1, 0] = torch.nan
    x[-1, 2, -1] = torch.inf
    bad, moments, signs = of(x, NonFiniteCounts, Moments, SignCounts)
    assert numbers(bad["bad"]).nonzero()[0].tolist() == [1, 2]
    assert numbers(bad["bad"]).sum() == 2
    assert np.isfinite(numbers(moments["within"])[0])
    assert numbers(signs["positive"])[1] == (by_neuron(x)[:, 1] > 0).sum()
    assert Rows(x).counted(torch.le, 0.0)[1] == (by_neuron(x)[:, 1] <= 0).sum()


def test_what_is_not_more_is_at_most_but_for_nan() -> None:
    x = large((40, 3, 1))
    for last in (0.0, torch.nan):
        x[-1, 0] = last
        rows = Rows(x)
        rows.counted(torch.gt, 0.0)
        assert rows.counted(torch.le, 0.0).tolist() == (x <= 0).sum((0, 2)).tolist()


def test_rows_without_any_gradient_are_not_live() -> None:
    x = large(SHAPES["neurons last"])
    x[10:30] = 0
    assert Rows(x).passing()[1] == 680
    assert Rows(x[:20]).passing()[1] == 10


def test_what_is_never_negative_needs_no_absolute_value() -> None:
    x = large(SHAPES["neurons last"]).relu()
    known, unknown = Rows(x, nonnegative=True), Rows(x)
    torch.testing.assert_close(known.magnitudes(), unknown.magnitudes(), rtol=1e-12, atol=0.0)
    assert known.near(1e-8).tolist() == unknown.near(1e-8).tolist() == (x == 0).sum((0, 2)).tolist()


def test_layers_side_by_side_give_what_each_gives() -> None:
    parts = (large((50, 6, 1)), large((50, 6, 1)).relu() - 0.3)
    parts[1][7] = 0
    together = Rows(parts)
    for name in ("sums", "squares", "magnitudes"):
        alone = torch.cat([getattr(Rows(x), name)() for x in parts])
        torch.testing.assert_close(getattr(together, name)(), alone, rtol=1e-14, atol=0.0)
    for together_, alone_ in zip(
        together.passing(), zip(*(Rows(x).passing() for x in parts), strict=True), strict=True
    ):
        assert together_.tolist() == torch.stack(alone_).flatten().tolist()
    torch.testing.assert_close(together.sizes(torch.relu), torch.cat([x.double().relu().sum((0, 2)) for x in parts]))


def test_pieces_are_small_and_are_all_of_it() -> None:
    x = large(SHAPES["several blocks"])
    pieces = [piece.x for piece in Rows(x).pieces()]
    assert max(piece.numel() for piece in pieces) <= ROOM
    assert torch.equal(torch.cat(pieces), x)
