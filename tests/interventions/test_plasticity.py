"""The benchmark of recycling runs, and recycling does in it what it is for."""

from __future__ import annotations

import re

import pytest

from benchmarks.plasticity import main


def test_prints_dormancy_and_accuracy_with_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tasks", "1", "--epochs", "6", "--rows", "256", "--width", "32", "--rate", "0.02"])
    dormant, recycled, *accuracies = map(float, re.findall(r"([\d.]+)%", capsys.readouterr().out))
    assert recycled < dormant / 2
    assert len(accuracies) == 2
