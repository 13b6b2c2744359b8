"""gradient_snr: T * norm of mean g squared / Var g over T steps, a number for each parameter."""

import math

import numpy as np
import torch

from tests.measures.harness import assert_close, compute, parameters, series

OWNERS = [0] * 12 + [1] * 4 + [2]  # of the sampled elements: all, as the parameters are small


def test_signal_over_noise_of_each_parameter() -> None:
    steps = torch.randn(7, len(OWNERS), generator=torch.Generator().manual_seed(0)).double() + 0.3
    g = np.asarray(steps)
    expected = []
    for parameter in range(3):
        own = g[:, [i for i, owner in enumerate(OWNERS) if owner == parameter]]
        expected.append(7 * (own.mean(0) ** 2).sum() / own.var(0, ddof=1).sum())
    assert_close(compute("gradient_snr", series(g.tolist()), parameters()), expected, rtol=1e-9)


def test_one_step_and_no_gradient_tell_nothing() -> None:
    assert np.isnan(compute("gradient_snr", series([[1.0] * 17]), parameters())).all()
    assert np.isnan(compute("gradient_snr", series([[0.0] * 17] * 3), parameters())).all()


def test_what_never_changes_has_no_noise() -> None:
    assert compute("gradient_snr", series([[2.0] * 17] * 3), parameters()).tolist() == [math.inf] * 3
