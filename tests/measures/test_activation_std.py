"""activation_std: population standard deviation of a."""

import torch

from tests.measures.harness import Batches, assert_close, compute


def test_spread_over_rows_and_not_over_batches(batches: Batches) -> None:
    assert_close(compute("activation_std", batches), batches.rows.std(0), rtol=1e-9)


def test_a_mean_of_a_thousand_deviations_leaves_nine_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    far = Batches(tuple(1000 + torch.randn((n, 3), generator=generator).double() for n in (400, 1, 99)))
    assert_close(compute("activation_std", far), far.rows.std(0), rtol=1e-9)
