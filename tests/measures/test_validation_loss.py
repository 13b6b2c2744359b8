"""validation_loss: the evaluations of the window in their order."""

from tests.measures.harness import compute, run, series


def test_every_evaluation() -> None:
    assert compute("validation_loss", series([3.0, 2.0, 2.5]), run()).tolist() == [3, 2, 2.5]
