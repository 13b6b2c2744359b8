"""Rows that wait for large states: nothing is lost, nothing counts twice, and what does not count is forgotten."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.counting.held import ELEMENTS, FEW, Held
from lightning_neurohealth.native import Plan, Targets, kernel
from lightning_neurohealth.statistics.base import Statistic
from lightning_neurohealth.statistics.covariance import ROWS, Covariance
from lightning_neurohealth.statistics.histogram import Histogram
from tests.measures.harness import layer

pytestmark = pytest.mark.skipif(kernel() is None, reason="needs a C compiler")


def statistics(neurons: int) -> list[Statistic]:
    return [Histogram(layer(neurons)), Covariance(layer(neurons))]


def put(held: Held, x: Tensor) -> None:
    """Let the rows of ``x`` wait, as the kernel does it."""
    found, (rows, neurons) = kernel(), x.shape
    assert found is not None
    plan = Plan((rows, 1, 1, neurons), (neurons, 0, 0, 1), x.dtype, Targets([]))
    found.add(plan, x, 0, 1.0, 0, held.room(rows, step=0))


def commit(held: Held) -> None:
    found = kernel()
    assert found is not None
    held.commit(found)


def settle(held: Held) -> None:
    found = kernel()
    assert found is not None
    held.settle(found)


def batches(neurons: int, *rows: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, neurons, generator=generator).to(dtype) for n in rows]


def assert_counted(found: list[Statistic], counted: list[Tensor]) -> None:
    """The states are those of the batches one by one."""
    for statistic, expected in zip(found, statistics(found[0].neurons), strict=True):
        for x in counted:
            expected.update(x)
        for name in expected.kinds:
            torch.testing.assert_close(getattr(statistic, name), getattr(expected, name), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("neurons", [3, 300, 512, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_many_steps_are_counted_however_they_are_put_together(neurons: int, dtype: torch.dtype) -> None:
    own = statistics(neurons)
    held, counted = Held(own, neurons, dtype), batches(neurons, *[31, 7, 120, 1, 60] * 5, dtype=dtype)
    for x in counted:
        put(held, x)
        commit(held)
    settle(held)
    assert_counted(own, counted)


def test_they_wait_until_there_are_enough() -> None:
    own = statistics(64)
    held = Held(own, 64, torch.float32)
    most = held.most
    counted = batches(64, *[most // 4] * 4)
    seen = []
    for x in counted:
        put(held, x)
        commit(held)
        seen.append(int(own[0].rows))
    assert seen == [0, 0, 0, most]
    assert_counted(own, counted)


def test_large_batches_are_sampled_one_by_one() -> None:
    own, counted = statistics(5), batches(5, 500, ROWS + 300, 1500, 700)
    held = Held(own, 5, torch.float32)
    for x in counted[:1]:
        put(held, x)
    commit(held)
    for x in counted[1:]:
        put(held, x)
    commit(held)
    settle(held)
    assert_counted(own, counted)


@pytest.mark.parametrize("neurons", [1, 16, 64, 256, 1000])
def test_little_waits_for_small_states(neurons: int) -> None:
    own = statistics(neurons)
    states = sum(getattr(one, name).nbytes for one in own for name in one.kinds)
    waiting = Held(own, neurons, torch.float32).most * neurons
    assert neurons <= waiting <= ELEMENTS
    assert waiting * torch.float32.itemsize <= FEW * states


@pytest.mark.parametrize("rows", [10, 3000])
def test_what_does_not_count_is_forgotten(rows: int) -> None:
    own = statistics(40)
    held, (first, lost, second) = Held(own, 40, torch.float32), batches(40, 20, rows, 30)
    put(held, first)
    commit(held)
    put(held, lost)
    brought = dict(held.brought())
    for statistic, expected in zip(own, statistics(40), strict=True):
        for name, partial in expected.partials(lost.unsqueeze(2)).items():
            torch.testing.assert_close(brought[statistic][name], partial)
    held.discard()
    put(held, second)
    settle(held)  # while the step goes on
    assert_counted(own, [first])
    commit(held)
    settle(held)
    assert_counted(own, [first, second])


def test_a_new_window_begins_with_nothing_but_the_step_that_goes_on() -> None:
    own = statistics(40)
    held, (old, new) = Held(own, 40, torch.float32), batches(40, 20, 30)
    put(held, old)
    commit(held)
    put(held, new)
    held.reset()
    commit(held)
    settle(held)
    assert_counted(own, [new])


def test_states_that_were_loaded_since_are_added_to() -> None:
    own, (first, second) = statistics(40), batches(40, 20, 30)
    held = Held(own, 40, torch.float32)
    put(held, first)
    commit(held)
    settle(held)
    for statistic in own:
        statistic.load({name: getattr(statistic, name).clone() for name in statistic.kinds})
    put(held, second)
    commit(held)
    settle(held)
    assert_counted(own, [first, second])


def test_rows_that_come_in_inference_mode_can_be_moved_later() -> None:
    own, counted = statistics(40), batches(40, 20, 4000, 30)
    held = Held(own, 40, torch.float32)
    for x in counted:
        with torch.inference_mode():
            put(held, x)
        commit(held)
    settle(held)
    assert_counted(own, counted)
