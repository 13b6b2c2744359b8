import math
from dataclasses import replace

import pytest
import torch
from matplotlib import pyplot
from matplotlib.collections import PathCollection

from tests.reporting.by_hand import make_finding, make_report


@pytest.fixture(autouse=True)
def _closed():
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def chain(windows=3, **more):
    report = None
    for index in range(windows):
        found = [make_finding("fc2", severity=3)] if index else []
        measures = {"on_rate": torch.tensor([0.0, 0.25, 0.5, index / 4]), **more}
        report = make_report(findings=found, index=index, previous=report, measures=measures)
    return report


def image(ax):
    return ax.images[0].get_array()


def test_layers_by_windows():
    figure, ax = chain().plot()
    assert ax.figure is figure
    expected = [(0.75 + index / 4) / 4 for index in range(3)]
    assert image(ax).tolist() == [pytest.approx(expected)] * 3
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fc1", "fc2", "head"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["40", "80", "120"]
    (marks,) = [c for c in ax.collections if isinstance(c, PathCollection)]
    assert marks.get_offsets().tolist() == [[1, 1], [2, 1]]
    assert marks.get_label() == "CRITICAL"


def test_shares_have_the_same_colours_in_every_picture():
    assert chain().plot("on_rate")[1].images[0].get_clim() == (0, 1)
    low, high = chain().plot("activation_std")[1].images[0].get_clim()
    assert 1 < low <= 1.5 <= high < 2


def test_neurons_by_windows():
    ax = chain().plot("on_rate", layer="fc1")[1]
    assert image(ax).tolist() == [[0, 0, 0], [0.25] * 3, [0.5] * 3, [0, 0.25, 0.5]]


def test_one_number_a_layer_is_a_line():
    ax = chain().plot("gradient_rms", layer="fc1")[1]
    assert not ax.images
    assert ax.lines[0].get_xydata().tolist() == [pytest.approx([x, 0.031]) for x in (40, 80, 120)]


def test_draws_where_it_is_told():
    figure, (left, right) = pyplot.subplots(1, 2)
    assert chain().plot(ax=right) == (figure, right)
    assert not left.images
    assert right.images


def test_what_is_not_finite_is_left_blank():
    ax = chain(dormancy=torch.tensor([math.inf, 1, 2, 3])).plot("dormancy")[1]
    assert image(ax).mask.all()
    pyplot.gcf().canvas.draw()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("on_rte",), "no measure is called 'on_rte'; did you mean on_rate"),
        (("on_rate", "fc3"), "no layer is called 'fc3'; did you mean fc2 or fc1"),
        (("xyz",), "there are activation_std, gradient_rms, on_rate, zero_rate"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(asked, said):
    with pytest.raises(KeyError, match=said):
        chain().plot(*asked)


def test_any_name_can_be_drawn():
    name = "$x_1$ [b]<i>äж🎉" + "n" * 200
    figure, _ = make_report([name, "head"], [make_finding(name)]).plot()
    figure.canvas.draw()


def learned():
    """Three windows; the activation of a layer learns to be steeper."""
    report = None
    for index in range(3):
        report = make_report(["fc1", "fc2", "head"], index=index, previous=report)
        layers = dict(report.layers)
        for name in ("fc1", "fc2"):
            shape = torch.linspace(-3, 3, 5) * (index + 1)
            layers[name] = replace(layers[name], measures={**layers[name].measures, "learned_shape": shape})
        report = replace(report, layers=layers)
    return report


def curves(axes):
    return {line.get_label(): line.get_ydata().tolist() for line in axes.lines if not line.get_label().startswith("_")}


def test_learned_shapes_of_the_last_window():
    _, axes = learned().plot("learned_shape")
    assert curves(axes) == {name: [-9, -4.5, 0, 4.5, 9] for name in ("fc1", "fc2")}
    assert axes.lines[0].get_xdata().tolist() == [-3, -1.5, 0, 1.5, 3]


def test_learned_shapes_of_a_layer_over_the_windows():
    _, axes = learned().plot("learned_shape", layer="fc2")
    assert [values[-1] for values in curves(axes).values()] == [3, 6, 9]
    assert list(curves(axes)) == ["step 40", "step 80", "step 120"]
    with pytest.raises(KeyError, match="no layer with this measure is called 'head'"):
        learned().plot("learned_shape", layer="head")
