"""Which signal is said to have gone first."""

from __future__ import annotations

import math

import pytest

from lightning_neurohealth.breakdown import Breakdown, Record, first_to_go

LAYERS = ("fc1", "fc2")
NOT_SEEN = -1.0


def found(*steps: int, **sizes: list[float]) -> Breakdown | None:
    """Sizes by layer, a ``g`` before it for gradients."""
    named = {
        (name.removeprefix("g"), "gradients" if name.startswith("g") else "activations"): s for name, s in sizes.items()
    }
    return first_to_go([Record(steps, named)], LAYERS)


def test_nothing_has_gone() -> None:
    assert found() is None
    assert found(0, 10, 20, fc1=[1.0, 900.0, 0.1], fc2=[2.0, 2.0, 2.0]) is None


def test_the_earliest_step_counts_and_then_the_flow_of_the_computation() -> None:
    first = found(0, 10, 20, fc2=[1.0, 1e5, math.inf], fc1=[1.0, 1.0, math.nan])
    assert first == Breakdown("fc2", "activations", 10, 1e5, 1.0)
    assert found(0, 10, fc2=[1.0, math.inf], fc1=[1.0, 1e4]).layer == "fc1"
    assert found(0, 10, gfc1=[1.0, math.inf], gfc2=[1.0, math.nan]).layer == "fc2"
    assert found(0, 10, gfc2=[1.0, math.inf], fc2=[1.0, 1e4]).signal == "activations"


def test_growth_step_by_step_is_an_explosion_in_the_end() -> None:
    assert found(*range(7), fc1=[1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]).step == 6


def test_what_begins_at_zero_has_not_exploded() -> None:
    assert found(0, 10, 20, gfc1=[0.0, 1.0, 1.0]) is None


def test_steps_that_were_not_seen_do_not_count() -> None:
    assert found(0, 10, 20, fc1=[NOT_SEEN, 1.0, NOT_SEEN]) is None
    assert found(0, 10, 20, fc1=[NOT_SEEN, 1.0, 1e4]).step == 20


def test_one_rank_is_enough() -> None:
    calm = Record([0, 10, 20], {("fc1", "activations"): [1.0, 1.0, 1.0]})
    wild = Record([0, 10], {("fc1", "activations"): [1.0, math.nan]})
    for records in ([calm, wild], [wild, calm]):
        first = first_to_go(records, LAYERS)
        assert (first.step, first.before) == (10, 1.0)
        assert not math.isfinite(first.size)


@pytest.mark.parametrize(
    ("breakdown", "text"),
    [
        (Breakdown("fc1", "gradients", 7, 3e4, 0.5), "the gradients of fc1 grew from 0.5 to 3e+04 by training step 7"),
        (
            Breakdown("fc1", "activations", 7, math.nan, 0.5),
            "the activations of fc1 were no finite numbers at training step 7, after 0.5 in the measured steps before",
        ),
        (
            Breakdown("fc1", "activations", 0, math.inf),
            "the activations of fc1 were no finite numbers at training step 0",
        ),
    ],
)
def test_in_words_and_back_from_json(breakdown: Breakdown, text: str) -> None:
    assert str(breakdown) == text
    assert str(Breakdown.from_dict(breakdown.to_dict())) == text
