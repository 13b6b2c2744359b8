"""stable_rank: the squared Frobenius norm over the squared spectral norm of the centred activations."""

import numpy as np
import pytest
import torch

from tests.measures.harness import Batches, assert_close, compute


def test_of_the_centred_rows(batches: Batches) -> None:
    rows = batches.rows - batches.rows.mean(0)
    spectral = np.linalg.norm(rows, 2)
    expected = np.linalg.norm(rows, "fro") ** 2 / spectral**2 if spectral else 0.0
    assert_close(compute("stable_rank", batches), expected, rtol=1e-8)


def test_small_directions_do_not_count() -> None:
    steps = torch.diag(torch.tensor([1.0, 1e-3, 1e-3, 1e-3]))
    found = compute("stable_rank", Batches((torch.cat([steps, -steps]),)))
    assert_close(found, 1 + 3e-6, rtol=1e-9)


def test_nothing_varies() -> None:
    assert compute("stable_rank", Batches((torch.full((7, 3), 0.1), torch.full((2, 3), 0.1)))) == 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_shows(value: float) -> None:
    batch = torch.eye(4)
    batch[1, 2] = value
    assert np.isnan(compute("stable_rank", Batches((batch,))))
