"""The windows of a run, side by side."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from lightning_neurohealth.record import LayerReport
from lightning_neurohealth.report import Report
from lightning_neurohealth.reporting.history import History, spread
from tests.reporting.by_hand import make_report


def run(*windows: dict[str, dict[str, torch.Tensor]]) -> Report:
    """A report with one predecessor for each window but the last, each layer of two neurons."""
    report = None
    for index, layers in enumerate(windows):
        made = {name: LayerReport(name, 2, measures) for name, measures in layers.items()}
        report = replace(make_report([], index=index, previous=report), layers=made)
    assert report is not None
    return report


A, B = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.5])


def test_windows_stand_from_the_oldest_to_the_last() -> None:
    history = History.of(run({}, {}, {}))
    assert [report.index for report in history.reports] == [0, 1, 2]
    assert history.last.index == 2


def test_of_many_windows_some_are_left_out_but_never_the_ends() -> None:
    history = History.of(run(*[{}] * 50), most=7)
    found = [report.index for report in history.reports]
    assert len(found) == 7
    assert (found[0], found[-1]) == (0, 49)
    assert max(b - a for a, b in pairwise(found)) <= 9


@pytest.mark.parametrize(("length", "most", "found"), [(3, 5, [0, 1, 2]), (5, 3, [0, 2, 4]), (9, 1, [8]), (0, 4, [])])
def test_spread(length: int, most: int, found: list[int]) -> None:
    assert spread(length, most) == found


def test_means_are_nan_where_a_window_has_none() -> None:
    history = History.of(run({"a": {"x": A}}, {"b": {"x": B}, "a": {"y": A}}))
    assert history.measures == {"x": ["b", "a"], "y": ["a"]}
    expected = [[math.nan, 2.0], [0.25, math.nan]]
    assert torch.allclose(history.means("x"), torch.tensor(expected, dtype=torch.float64), equal_nan=True)


def test_layers_of_all_windows_stand_in_the_order_of_execution() -> None:
    history = History.of(run({"a": {}, "b": {}, "c": {}}, {"a": {}, "c": {}, "d": {}}))
    assert list(history.layers) == ["a", "b", "c", "d"]


def test_neurons_are_known_only_where_the_window_kept_them() -> None:
    history = History.of(run({"a": {"x": A}}, {"a": {"x": A.mean()}}, {"a": {"x": B}}))
    places, values = history.neurons("x", "a")
    assert places == [0, 2]
    assert values.tolist() == [[1.0, 3.0], [0.0, 0.5]]
    assert history.means("x").flatten().tolist() == [2.0, 2.0, 0.25]


def test_frame_is_tidy() -> None:
    pandas = pytest.importorskip("pandas")
    frame = run({"a": {"x": A, "empty": torch.zeros(0)}}, {"a": {"x": B}}).to_frame()
    expected = pandas.DataFrame(
        [
            (0, 0, 40, "a", "x", 2.0),
            (0, 0, 40, None, "train_loss", 1.5),
            (1, 1, 80, "a", "x", 0.25),
            (1, 1, 80, None, "train_loss", 1.5),
        ],
        columns=["window", "epoch", "step", "layer", "measure", "value"],
    )
    pandas.testing.assert_frame_equal(frame, expected)
