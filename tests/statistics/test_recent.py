"""Recent: states that fade, beside the number of rows of the window alone."""

import pytest
import torch

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.magnitude import RecentMagnitude
from lightning_neurohealth.statistics.recent import Recent
from lightning_neurohealth.statistics.recent_moments import RecentMoments
from tests.measures.harness import layer


@pytest.mark.parametrize("kind", [RecentMagnitude, RecentMoments])
def test_who_fades(kind: type[Recent]) -> None:
    assert issubclass(kind, Recent)
    statistic = kind(layer(3))
    statistic.update(torch.ones(5, 3))
    assert (statistic.rows, statistic.new_rows) == (5, 5)


def test_rows_fade_and_new_rows_are_those_of_the_window() -> None:
    ledger, subject = Ledger([all_measures()["gradient_flow"]]), layer(3)
    seen = []
    for rows in ((4, 2), (), (3,)):  # of the steps of a window
        for n in rows:
            ledger.take(subject, Signal.ACTIVATION_GRADIENT, torch.ones(n, 3, 1))
            ledger.fade()
            ledger.commit()
        if not rows:
            ledger.fade()
        twins, _ = ledger.merged()
        (statistic,) = twins[subject][Signal.ACTIVATION_GRADIENT]
        seen.append((float(statistic.rows), float(statistic.new_rows)))
        ledger.reset()
    first = 0.9 * 4 + 2
    assert seen == [(pytest.approx(first), 6), (pytest.approx(0.9 * first), 0), (pytest.approx(0.81 * first + 3), 3)]
