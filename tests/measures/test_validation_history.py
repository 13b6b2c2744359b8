"""validation_history: every evaluation since the start of the run."""

import numpy as np

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.signals import Signal
from tests.measures.harness import assert_close, compute, run, series


def test_every_evaluation() -> None:
    assert compute("validation_history", series([3.0, 2.0, 2.5]), run()).tolist() == [3, 2, 2.5]


def test_neighbours_are_averaged_once_it_is_full() -> None:
    values = np.random.default_rng(0).normal(size=600)
    assert_close(compute("validation_history", series(values), run()), values.reshape(-1, 2).mean(1))


def test_goes_on_from_window_to_window() -> None:
    measure, subject = all_measures()["validation_history"], run()
    ledger = Ledger([measure])
    ledger.open(subject, "run")
    for window in ([3.0, 2.0], [], [4.0]):
        for x in series(window).tensors:
            ledger.take(subject, Signal.VALIDATION_LOSS, x.unsqueeze(-1))
            ledger.commit()
            ledger.advance(Signal.VALIDATION_LOSS)
        ledger.agree()
        ledger.reset()
    (history,) = ledger.books[subject][Signal.VALIDATION_LOSS]
    assert measure.compute(validation_loss=history).tolist() == [3, 2, 4]
