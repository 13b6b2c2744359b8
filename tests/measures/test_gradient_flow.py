"""gradient_flow: E abs(g), in which each measured step counts 0.9 of the next."""

import pytest
import torch

from tests.measures.harness import Batches, assert_close, compute


def test_faded_sum_over_faded_rows(batches: Batches) -> None:
    total, rows = 0.0, 0.0
    for batch in batches.by_batch:
        total = 0.9 * total + abs(batch).sum(0)
        rows = 0.9 * rows + len(batch)
    assert_close(compute("gradient_flow", batches), total / rows)


@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_constant_gradient_shows_in_full_from_the_first_step(steps: int) -> None:
    gradient = torch.tensor([0.0, 1e-3, -2.0])
    constant = Batches(tuple(gradient.expand(1 + step % 7, 3) for step in range(steps)))
    assert_close(compute("gradient_flow", constant), gradient.double().abs(), rtol=1e-12)


def test_the_past_fades() -> None:
    """After a silent stretch of n steps 0.9 ** n of the first step is left, of a sum of rows that goes on."""
    live, silent = torch.ones(4, 1), torch.zeros(4, 1)
    expected = 0.9**9 / sum(0.9**age for age in range(10))
    assert_close(compute("gradient_flow", Batches((live, *[silent] * 9))), [expected])
