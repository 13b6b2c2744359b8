"""effective_rank: exp of the entropy of the normalised singular values of the activations' covariance."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.measures.harness import Batches, assert_close, compute


def effective_rank(rows: np.ndarray) -> float:
    singular = np.linalg.svd(np.cov(rows.T, bias=True).reshape(rows.shape[1], -1), compute_uv=False)
    shares = singular[singular > 1e-12 * np.mean(rows**2, axis=0).max()] / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def test_of_all_rows(batches: Batches) -> None:
    assert_close(compute("effective_rank", batches), effective_rank(batches.rows), rtol=1e-8)


@pytest.mark.parametrize("directions", [1, 3, 8])
def test_directions_of_equal_variance(directions: int) -> None:
    axes, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double())
    steps = torch.cat([axes[:directions], -axes[:directions]])
    assert_close(compute("effective_rank", Batches((steps + 5,))), directions, rtol=1e-6)


def test_nothing_varies() -> None:
    assert compute("effective_rank", Batches((torch.full((7, 3), 0.1), torch.full((2, 3), 0.1)))) == 0
    assert compute("effective_rank", Batches((torch.zeros(7, 3),))) == 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_shows(value: float) -> None:
    batch = torch.eye(4)
    batch[1, 2] = value
    assert np.isnan(compute("effective_rank", Batches((batch,))))


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()


def test_wide_layers_show_by_evenly_spaced_neurons() -> None:
    wide = noise(400, 300)
    spaced = wide[:, [i * 300 // 256 for i in range(256)]]
    assert_close(compute("effective_rank", Batches((wide,))), effective_rank(spaced.numpy()), rtol=1e-8)


@pytest.mark.parametrize("shape", [(50_000, 6), (64, 6, 32, 32)], ids=str)
def test_long_batches_show_by_spread_rows(shape: tuple[int, ...]) -> None:
    mixed = torch.movedim(noise(*shape), 1, -1) @ noise(6, 6)
    batches = Batches((mixed.movedim(-1, 1).contiguous(),), 1)
    assert_close(compute("effective_rank", batches), effective_rank(batches.rows), rtol=0.05)


def test_full_precision_where_products_are_run_in_half() -> None:
    batches = Batches((noise(40, 6).float() + 30,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compute("effective_rank", batches)
    assert_close(found, effective_rank(batches.rows), rtol=1e-8)
