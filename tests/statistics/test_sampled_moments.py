"""SampledMoments: mean and unbiased variance over steps of sampled elements, on one rank or on several."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from lightning_neurohealth.statistics.sampled_moments import SampledMoments
from tests.measures.harness import assert_close, parameters

STEPS = torch.randn(7, 1, 17, 1, generator=torch.Generator().manual_seed(0)) + 3


def test_one_number_for_each_sampled_element() -> None:
    statistic = SampledMoments(parameters())
    for step in STEPS:
        statistic.update(step)
    elements = np.asarray(STEPS.double()).reshape(7, 17)
    assert_close(statistic.mean, elements.mean(0))
    assert_close(statistic.variance, elements.var(0, ddof=1))


def test_one_step_has_no_variance() -> None:
    statistic = SampledMoments(parameters())
    statistic.update(STEPS[0])
    assert statistic.variance.isnan().all()


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_ranks_with_the_same_gradient_do_not_pass_for_more_steps(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together = SampledMoments(parameters()), SampledMoments(parameters())
    for step in STEPS:
        alone.update(step)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: ranks)
    for _ in range(ranks):
        of_rank = SampledMoments(parameters())
        for step in STEPS:
            of_rank.merge(of_rank.partials(step))
        for name in together.kinds:
            getattr(together, name).add_(getattr(of_rank, name))
    assert_close(together.steps, 7)
    assert_close(together.mean, alone.mean)
    assert_close(together.variance, alone.variance, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("ranks", [3, 6, 7, 49])
def test_shares_of_ranks_that_do_not_add_up_to_a_whole_number(
    ranks: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: ranks)
    statistic = SampledMoments(parameters())
    for step in STEPS[:steps]:
        for _ in range(ranks):
            statistic.merge(statistic.partials(step))
    elements = np.asarray(STEPS[:steps].double()).reshape(steps, 17)
    expected = elements.var(0, ddof=1) if steps > 1 else np.full(17, np.nan)
    assert_close(statistic.variance, expected, rtol=1e-9)
