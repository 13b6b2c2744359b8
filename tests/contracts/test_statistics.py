"""What holds for every statistic, whatever it counts."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import lightning_neurohealth.statistics
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.discovery import concrete_classes
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics import Statistic
from lightning_neurohealth.statistics.base import EMPTY
from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts
from lightning_neurohealth.statistics.series import Series
from tests.measures.harness import layer, run

STATISTICS = sorted(concrete_classes(lightning_neurohealth.statistics, Statistic), key=lambda cls: cls.__name__)
OF_ROWS = [cls for cls in STATISTICS if cls is not Series]  # a series takes one number a step, not rows
DIVISIBLE = [cls for cls in OF_ROWS if cls.__name__ not in ("Cosines", "Twins")]  # which see all rows at once
ALIKE = [cls for cls in OF_ROWS if cls.__name__ != "SpatialMagnitude"]  # to which outer and inner rows are the same
REAL = {"sums": 1e-12, "squares": 1e-12, "within": 1e-12, "largest": 1e-6, "least": 1e-6}  # others are counts, exact
PER_BATCH = {"within", "freedom"}  # deviations from the mean of a batch depend on what is a batch

every_statistic = pytest.mark.parametrize("cls", STATISTICS)
every_statistic_of_rows = pytest.mark.parametrize("cls", OF_ROWS)


def new(cls: type[Statistic]) -> Statistic:
    """A statistic of three neurons (a series: of the run)."""
    return cls(run() if cls is Series else subject())


def subject() -> Layer:
    """A layer that every statistic applies to: tanh has tails, slopes and two ends; and it is a learned mixture."""
    return layer(3, nn.Tanh(), parts=("relu", "tanh", "identity"), places=3, nonnegative=True)


def example(cls: type[Statistic], rows: int = 6, seed: int = 0) -> Tensor:
    """Numbers that it takes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, 1) if cls is Series else (rows, 3), generator=generator) * 3


def states(statistic: Statistic) -> dict[str, Tensor]:
    return {name: getattr(statistic, name).clone() for name in statistic.kinds}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Counts and extremes exactly, sums of real numbers but for the order of additions."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = REAL.get(name, 0.0)
        torch.testing.assert_close(actual[name], value, rtol=tolerance, atol=tolerance, equal_nan=True, msg=name)


numbers = st.floats(-8, 8, width=32) | st.sampled_from([0.0, -0.0, 1e-8, 2.5, -2.5, 1.0, -1.0, 0.99])
row_lists = st.lists(st.tuples(st.lists(numbers, min_size=3, max_size=3), st.integers(0, 5)), max_size=12)


@pytest.mark.parametrize("cls", DIVISIBLE)
@given(assigned=row_lists)
def test_any_split_over_batches_and_ranks_gives_the_same(
    cls: type[Statistic], assigned: list[tuple[list[float], int]]
) -> None:
    """Each row goes to one of six batches, of which each of two ranks sees three, empty ones among them."""
    whole = new(cls)
    whole.update(torch.tensor([row for row, _ in assigned], dtype=torch.float64).reshape(-1, 3))
    ranks = [new(cls), new(cls)]
    for batch in range(6):
        rows = [row for row, place in assigned if place == batch]
        ranks[batch % 2].update(torch.tensor(rows, dtype=torch.float64).reshape(-1, 3))
    reduce = {"sum": torch.add, "min": torch.minimum, "max": torch.maximum}
    merged = {
        name: reduce[kind](getattr(ranks[0], name), getattr(ranks[1], name)) for name, kind in whole.kinds.items()
    }
    for per_batch in PER_BATCH & merged.keys():
        del merged[per_batch]
    assert_same(merged, {name: value for name, value in states(whole).items() if name not in PER_BATCH})


@pytest.mark.parametrize("cls", ALIKE)
def test_rows_are_the_outer_and_the_inner_axes(cls: type[Statistic]) -> None:
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)) * 3
    folded, flat = new(cls), new(cls)
    folded.update(x)
    flat.update(x.movedim(1, 2).reshape(20, 3))
    assert folded.rows == 20
    assert_same(states(folded), states(flat))


@every_statistic_of_rows
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (4, 3, 0)])
def test_a_batch_without_rows_adds_nothing(cls: type[Statistic], shape: tuple[int, ...]) -> None:
    statistic = new(cls)
    statistic.update(torch.empty(shape))
    assert_same(states(statistic), states(new(cls)))


@every_statistic
def test_begins_empty_in_double_precision(cls: type[Statistic]) -> None:
    statistic = new(cls)
    for name, kind in statistic.kinds.items():
        state = getattr(statistic, name)
        assert state.dtype == torch.float64
        assert (state == EMPTY[kind]).all()


@every_statistic
def test_reduce_is_pure(cls: type[Statistic]) -> None:
    statistic, x = new(cls), example(cls).unsqueeze(-1)
    before, input_before = states(statistic), x.clone()
    statistic.partials(x)
    assert_same(states(statistic), before)
    assert torch.equal(x, input_before)


def of_others(state: Tensor) -> Tensor:
    """What of a state belongs to the first and the last of three neurons."""
    for axis, size in enumerate(state.shape):
        state = state.index_select(axis, torch.tensor([0, 2])) if size == 3 else state
    return state


@pytest.mark.parametrize("cls", [cls for cls in OF_ROWS if cls.__name__ != "Twins"])  # whose numbers are of pairs
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_neuron_leaves_the_others_alone(cls: type[Statistic], value: float) -> None:
    broken, sound = new(cls), new(cls)
    for seed in range(2):
        x = example(cls, seed=seed)
        sound.update(x)
        x[2:4, 1] = value
        broken.update(x)
    assert broken.rows == sound.rows
    of_neurons = [name for name, state in states(sound).items() if state.dim()]
    assert_same(*({name: of_others(getattr(s, name)) for name in of_neurons} for s in (broken, sound)))
    if isinstance(broken, NonFiniteCounts):
        assert broken.bad.tolist() == [0, 4, 0]


@every_statistic_of_rows
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_count_as_the_numbers_that_they_are(cls: type[Statistic], dtype: torch.dtype) -> None:
    x = torch.cat([example(cls), torch.full((2, 3), 0.9883)]).to(dtype)  # to bfloat16, 0.99 is 0.9883
    of, found = subject(), []
    for rows in (x, x.float()):
        ledger = Ledger([])
        ledger.wanted = {Signal.ACTIVATION: [cls]}
        ledger.take(of, Signal.ACTIVATION, rows.unsqueeze(-1))
        ledger.commit()
        found.append(states(ledger.books[of][Signal.ACTIVATION][0]))
    assert_same(*found)


def copied(statistic: Statistic) -> Statistic:
    return copy.deepcopy(statistic)


def pickled(statistic: Statistic) -> Statistic:
    return pickle.loads(pickle.dumps(statistic))


@every_statistic
@pytest.mark.parametrize("copy_of", [copied, pickled])
def test_copies_go_on_by_themselves(cls: type[Statistic], copy_of: Callable[[Statistic], Statistic]) -> None:
    original = new(cls)
    original.update(example(cls))
    twin = copy_of(original)
    assert_same(states(twin), states(original))
    before = states(original)
    twin.update(example(cls, rows=2, seed=1))
    assert_same(states(original), before)
    original.update(example(cls, rows=2, seed=1))
    assert_same(states(twin), states(original))


@every_statistic
def test_states_go_through_a_state_dict(cls: type[Statistic]) -> None:
    full, fresh = new(cls), new(cls)
    full.update(example(cls))
    full.persistent(True)
    fresh.persistent(True)
    saved = full.state_dict()
    assert saved.keys() == full.kinds.keys()
    fresh.load_state_dict(saved)
    assert_same(states(fresh), states(full))


@every_statistic
def test_moves_to_another_device(cls: type[Statistic]) -> None:
    statistic = new(cls).to("meta")
    statistic.update(example(cls).to("meta"))
    assert {state.device.type for state in states(statistic).values()} == {"meta"}


@every_statistic
def test_says_what_it_holds_and_is_tested(cls: type[Statistic]) -> None:
    assert vars(cls)["__doc__"]
    name = Path(inspect.getfile(cls)).stem
    assert (Path(__file__).parents[1] / "statistics" / f"test_{name}.py").exists()
