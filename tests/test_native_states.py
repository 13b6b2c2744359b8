"""States that C adds to are emptied when others are, and stay with their kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures import Measure
from lightning_neurohealth.native import kernel
from lightning_neurohealth.statistics.magnitude import RecentMagnitude
from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.sign_counts import SignCounts
from tests.measures.harness import layer

pytestmark = pytest.mark.skipif(kernel() is None, reason="needs a C compiler")


class Watched(Measure):
    """Needs a statistic of each kind: one of a window, one that fades, and a snapshot."""

    def compute(self, activation: Moments, activation_gradient: RecentMagnitude, weight: SignCounts) -> Tensor:
        raise NotImplementedError  # only what it needs is looked at


def _taken(ledger: Ledger, subject: Layer) -> tuple[Moments, RecentMagnitude, SignCounts]:
    for signal in Watched.needs:
        route = ledger.route(subject, signal)
        assert route is not None
        assert ledger.native.take(route, torch.ones(4, subject.neurons, 1), None, 0, 1.0, step=0)
    ledger.commit()
    (moments,), (recent,), (signs,) = (ledger.books[subject][signal] for signal in Watched.needs)
    return moments, recent, signs


def _rows(*statistics: Any) -> list[float]:
    return [float(statistic.rows) for statistic in statistics]


def test_snapshots_are_emptied_before_they_are_taken_anew_and_all_but_averages_with_the_window() -> None:
    ledger, subject = Ledger([Watched()], fused=True), layer(3)
    moments, recent, signs = _taken(ledger, subject)
    ledger.clear_snapshots()
    assert _rows(moments, recent, signs) == [4, 4, 0]
    assert (moments.sums == 4).all()
    assert (signs.positive == 0).all()
    _taken(ledger, subject)
    assert _rows(moments, recent, signs) == [8, 8, 4]
    ledger.reset()
    assert _rows(moments, recent, signs) == [0, 8, 0]
    assert float(recent.fresh) == 0
    assert (recent.sums == 8).all()
    assert (moments.sums == 0).all()


def test_states_that_were_put_in_the_place_of_others_are_emptied_too() -> None:
    ledger, subject = Ledger([Watched()], fused=True), layer(3)
    moments, _, signs = _taken(ledger, subject)
    moments.load({"rows": torch.tensor(5.0).double(), "sums": torch.ones(3).double()})
    signs.load({"rows": torch.tensor(5.0).double(), "positive": torch.ones(3).double()})
    ledger.clear_snapshots()
    assert _rows(moments, signs) == [5, 0]
    assert (signs.positive == 0).all()
    ledger.reset()
    assert _rows(moments, signs) == [0, 0]
    assert (moments.sums == 0).all()
    assert (moments.squares == 0).all()


def test_what_another_ledger_has_counted_is_emptied_with_what_is_counted_here() -> None:
    before, subject = Ledger([Watched()], fused=True), layer(3)
    moments, *_ = _taken(before, subject)
    after = Ledger([Watched()], fused=True)
    after.inherit(before, [subject], subject.device)
    other = layer(2)
    other.name = "other"
    _taken(after, other)
    after.reset()
    assert _rows(moments) == [0]
    assert (moments.sums == 0).all()


def test_states_that_move_together_stay_with_their_kind() -> None:
    ledger, subject = Ledger([Watched()], fused=True), layer(3)
    moments, _, signs = _taken(ledger, subject)
    ledger.native.forget_routes(ledger.statistics())
    assert _rows(moments, signs) == [4, 4]
    ledger.clear_snapshots()
    assert _rows(moments, signs) == [4, 0]
    _taken(ledger, subject)
    ledger.reset()
    assert _rows(moments, signs) == [0, 0]
