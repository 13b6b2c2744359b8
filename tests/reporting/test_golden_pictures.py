"""Pictures as they were when somebody looked at them.

``NEUROHEALTH_GOLDEN=new pytest tests/reporting/test_golden_pictures.py`` draws them anew; look at what has changed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot
from matplotlib.testing.compare import compare_images

from lightning_neurohealth.report import Report
from lightning_neurohealth.reporting.pictures import heatmap, windows
from tests.reporting.by_hand import make_finding, make_report

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 3  # of 255, root mean square


def sick_run() -> Report:
    """Of four layers one falls ill and recovers, one stays ill; some numbers are missing."""
    names = ["encoder.layers.0.linear", "encoder.layers.1.linear", "encoder.layers.2.linear", "head"]
    report = None
    for index in range(8):
        found = [make_finding(names[1], severity=1)] if 2 <= index < 5 else []
        found += [make_finding(names[2], severity=3)] if index >= 4 else []
        rates = torch.tensor([0.0, index / 8, 0.5, float("nan") if index == 6 else 1.0])
        report = make_report(names, found, index=index, previous=report, measures={"on_rate": rates})
    assert report is not None
    return report


def board() -> pyplot.Figure:
    return heatmap(windows(sick_run()))


def layers() -> pyplot.Figure:
    _, ax = pyplot.subplots(figsize=(5, 2.4), layout="constrained")
    return sick_run().plot("on_rate", ax=ax)[0]


def neurons() -> pyplot.Figure:
    _, ax = pyplot.subplots(figsize=(5, 2.4), layout="constrained")
    return sick_run().plot("on_rate", layer="head", ax=ax)[0]


@pytest.mark.parametrize("draw", [board, layers, neurons], ids=lambda draw: draw.__name__)
def test_looks_as_it_did(draw, tmp_path):
    pyplot.switch_backend("agg")
    file = f"{draw.__name__}.png"
    draw().savefig(tmp_path / file, dpi=70)
    pyplot.close("all")
    if os.environ.get("NEUROHEALTH_GOLDEN") == "new":
        (GOLDEN / file).write_bytes((tmp_path / file).read_bytes())
    assert compare_images(str(GOLDEN / file), str(tmp_path / file), tol=TOLERANCE) is None


def test_a_lost_mark_is_noticed(tmp_path):
    pyplot.switch_backend("agg")
    figure = layers()
    for marks in figure.axes[0].collections:
        marks.remove()
    figure.savefig(tmp_path / "layers.png", dpi=70)
    pyplot.close("all")
    assert compare_images(str(GOLDEN / "layers.png"), str(tmp_path / "layers.png"), tol=TOLERANCE) is not None
