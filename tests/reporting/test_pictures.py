import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from lightning_neurohealth.reporting import pictures
from lightning_neurohealth.reporting.pictures import heatmap, histograms, windows
from tests.reporting.by_hand import make_finding, make_report


def chain(length, names=("fc1", "fc2", "head"), sick=()):
    """The last of some windows; ``sick`` holds (layer, severity, first window, window after)."""
    report = None
    for index in range(length):
        found = [make_finding(layer, severity=s) for layer, s, start, stop in sick if start <= index < stop]
        report = make_report(names, found, index=index, previous=report)
    return report


def parts(figure):
    """Axes, drawn values, labels of layers."""
    axes = figure.axes[0]
    return axes, axes.images[0].get_array(), [label.get_text() for label in axes.get_yticklabels()]


def test_windows_are_in_order():
    assert [report.index for report in windows(chain(5))] == [0, 1, 2, 3, 4]
    assert [report.index for report in windows(chain(5), 2)] == [3, 4]


def test_cells_hold_means():
    reports = windows(chain(3))
    half = {"fc2": dataclasses.replace(reports[1]["fc2"], measures={"on_rate": torch.tensor([0.5, 0.0])})}
    reports[1] = dataclasses.replace(reports[1], layers={**reports[1].layers, **half})
    _, values, labels = parts(heatmap(reports))
    assert labels == ["fc1", "fc2", "head"]
    assert values.tolist() == [[0.4375] * 3, [0.4375, 0.25, 0.4375], [0.4375] * 3]


def test_missing_and_nan_cells_are_masked():
    reports = windows(chain(2))
    nan = {"fc1": dataclasses.replace(reports[0]["fc1"], measures={"on_rate": torch.tensor([float("nan")])})}
    reports[0] = dataclasses.replace(reports[0], layers={**nan, "head": reports[0]["head"]})
    _, values, _ = parts(heatmap(reports))
    assert values.mask.tolist() == [[True, False], [True, False], [False, False]]


def test_sick_stretches_are_marked():
    axes, _, _ = parts(heatmap(windows(chain(6, sick=[("fc1", 1, 2, 6), ("fc2", 3, 0, 3)]))))
    marks = {line.get_label(): line.get_xydata().tolist() for line in axes.lines if line.get_marker() != "None"}
    assert marks == {"WARNING": [[2, 0]], "CRITICAL": [[0, 1]]}
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["WARNING", "CRITICAL"]
    spans = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "None"]
    assert [[2, 0], [5, 0]] in spans
    assert [[0, 1], [2, 1]] in spans


def test_the_picture_is_bounded():
    names = [f"block{i}" for i in range(80)]
    figure = heatmap(windows(chain(120, names, [("block79", 2, 119, 120)]), 200))
    _, values, labels = parts(figure)
    assert values.shape == (60, 100)
    assert labels == [*names[:59], "block79"]
    assert "60 of 80 layers" in figure.texts[0].get_text()


@pytest.mark.parametrize(
    "name",
    [
        "$x$_1^2",
        "$\\frac$",
        "a[0]",
        "new\nline",
        "层.α",
        "W" * 200,
        "encoder.layers.11.attention.self.output.dense.lora_A",
    ],
)
def test_any_name_is_drawn_inside_the_picture(name):
    figure = heatmap([make_report([name, "head"])])
    figure.canvas.draw()
    for label in figure.axes[0].get_yticklabels():
        assert label.get_window_extent().x0 >= 0
        assert "\n" not in label.get_text()


def test_a_rate_is_drawn_from_0_to_1_and_others_over_their_range():
    reports = [make_report(index=i, measures={"activation_std": torch.full((4,), 2.0 + i)}) for i in range(3)]
    assert heatmap(reports).axes[0].images[0].get_clim() == (0, 1)
    assert heatmap(reports, "activation_std").axes[0].images[0].get_clim() == (2, 4)


def test_a_measure_that_no_layer_has():
    figure = heatmap([make_report()], "effective_rank")
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["no such layer"]


def test_it_is_a_picture(tmp_path):
    figure = heatmap(windows(chain(3, sick=[("fc1", 3, 0, 3)])))
    figure.savefig(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").stat().st_size > 5000


def test_pyplot_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # its import would fail
    heatmap([make_report()]).canvas.draw()


def test_matplotlib_is_not_needed_until_it_draws(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    copy: dict[str, object] = {"__name__": "copy_of_pictures"}
    exec(Path(pictures.__file__).read_text(), copy)
    with pytest.raises(ImportError):
        copy["heatmap"]([make_report()])  # type: ignore[operator]


def test_histograms_have_a_bar_for_each_number_and_a_panel_for_each_measure():
    rates, flow = torch.tensor([0.0, 0.0, 0.5, 1.0]), torch.tensor([0.0, 1e-6, 1e-3, 1.0])
    figure = histograms({"on_rate": rates, "gradient_flow": flow}, bins=10)
    first, second = figure.axes
    assert [bar.get_height() for bar in first.patches] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert (first.get_xlabel(), second.get_xlabel()) == ("on_rate", "log10 of gradient_flow")
    assert second.get_title(loc="left") == "gradient_flow: 4 neurons, 1 are 0"
    assert sum(bar.get_height() for bar in second.patches) == 3


def test_histograms_of_alike_numbers():
    (axes,) = histograms({"gradient_flow": torch.zeros(5)}, bins=4).axes
    assert sum(bar.get_height() for bar in axes.patches) == 5
