"""What is in the page."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_neurohealth.record import LayerReport
from lightning_neurohealth.reporting import page_data
from lightning_neurohealth.reporting.page import html_page
from tests.reporting.by_hand import make_finding, make_report
from tests.reporting.pages import EVIL, Elements, chain, data_of, learned


def test_says_the_verdict_first():
    text = " ".join(Elements(html_page(chain())).text.split())
    assert "2 findings, the worst CRITICAL" in text
    assert text.index("the worst CRITICAL") < text.index("CRITICAL dead neurons") < text.index("SERIOUS plateau in run")
    for said in ("lower the learning rate or warm it up", "1 found earlier and gone", "never called", "hold 50% of"):
        assert said in text
    assert "WARNING saturation in fc1, steps 80 to 80" in text


def test_of_a_long_list_the_first_findings_have_their_reasons_in_sight():
    names = [f"b{i}" for i in range(7)]
    page = html_page(make_report(names, [make_finding(name, cause="x" * i) for i, name in enumerate(names)]))
    folded = [part.partition("</details>")[0] for part in page.split("<summary>why, and what to do</summary>")[1:]]
    assert len(folded) == 3
    assert all("lower the learning rate" in part for part in folded)
    assert page.count("8 of 32 neurons of b6") == 1


def test_a_finding_on_the_run_leads_to_the_loss():
    assert 'plateau in <a href="#training">run</a>' in html_page(chain())
    assert "plateau in run" in html_page(make_report(findings=[make_finding(None, "plateau")], run={}))


def test_each_stretch_of_a_finding_on_the_run_is_marked():
    report = None
    for index, sick in enumerate([1, 1, 0, 1]):
        report = make_report(findings=[make_finding(None, "plateau", 1)] * sick, index=index, previous=report)
    assert data_of(html_page(report))["run"] == [[1, "plateau", 0, 80], [1, "plateau", 120, 160]]


def test_learned_shapes_are_those_of_the_first_and_the_last_window():
    data = data_of(html_page(learned()))
    assert data["shapes"] == {"0": [[40, [-3, -1.5, 0, 1.5, 3]], [80, [-6, -3, 0, 3, 6]]]}
    assert "learned_shape" not in data["measures"]
    assert data_of(html_page(chain()))["shapes"] == {}


def test_is_whole_in_itself():
    for tag, attributes in Elements(html_page(chain())).tags:
        assert tag not in ("iframe", "img", "object", "embed")
        assert not attributes.get("src")
        assert attributes.get("href", "#").startswith(("#", "data:,"))


def test_names_are_text():
    page = html_page(chain())
    assert sum(tag == "script" for tag, _ in Elements(page).tags) == 4
    assert "alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert data_of(page)["layers"][1]["name"] == EVIL.replace("\n", "\\n")


def test_numbers_are_those_of_the_reports():
    data = data_of(html_page(chain()))
    assert data["measures"]["on_rate"]["means"] == [
        [pytest.approx(m, rel=5e-3)] * 4 for m in (0.438, 0.375, 0.375, 0.438)
    ]
    assert np.isnan(data["measures"]["slope"]["means"]).tolist() == [[True] * 4] * 4
    assert data["measures"]["gradient_flow"]["means"] == [[math.inf] * 4] * 4
    neurons = data["neurons"]["0"]
    assert neurons["measures"]["on_rate"] == {
        "windows": [0, 1, 2, 3],
        "values": [[0.0] * 4, [0.25, 0.0, 0.0, 0.25], [0.5] * 4, [1.0] * 4],
    }
    assert neurons["turns"] == [1, 1, 1]
    assert data["marks"] == [[0, 1, 1, 1], [1, 3, 1, 3]]
    assert data["run"] == [[2, "plateau", 80, 160]]
    assert len(data["loss"]["training"]) == 160
    assert data["loss"]["training"][0] == [0.5, 2.0]
    assert data["loss"]["validation"] == [[40, 1.5], [80, 1.5], [120, 1.5], [160, 1.5]]


def test_of_wide_layers_the_silent_neurons_are_shown(monkeypatch):
    monkeypatch.setattr(page_data, "NEURONS", 0)
    rates = torch.ones(64)
    rates[[5, 50]] = 0
    layer = LayerReport("fc1", 64, {"on_rate": rates}, function="relu")
    data = data_of(html_page(replace(make_report(["fc1"]), layers={"fc1": layer})))
    assert data["neurons"]["0"]["shown"] == [0, 5, 50, 63]
    assert data["neurons"]["0"]["measures"]["on_rate"]["values"] == [[1], [0], [0], [1]]
    assert data["neurons"]["0"]["turns"] == [2, 0, 0]


def test_many_findings_are_folded():
    names = [f"b{i}" for i in range(40)]
    found = [make_finding(name, cause="x" * i) for i, name in enumerate(names)]
    page = Elements(html_page(make_report(names, found)))
    assert "28 more" in page.text
    assert sum(attributes.get("class") == "go" for _, attributes in page.tags) == 40


def test_what_is_the_same_of_many_layers_is_one_entry_that_opens_to_them():
    names = [f"b{i}" for i in range(40)]
    found = [make_finding(name, severity=3 if name == "b39" else 2) for name in names]
    html = html_page(make_report(names, found))
    text = Elements(html).text
    assert "CRITICAL dead neurons in 40 layers (1 CRITICAL, 39 SERIOUS)" in text
    assert "Worstb39 since epoch 0, step 408 of 32" in text
    assert "40 findings" in text
    assert html.count('<li class="finding') == html.count("lower the learning rate") == 1
    listed = html.partition("<summary>all 40 layers</summary>")[2].partition("</details>")[0]
    assert [listed.count(f">{name}</button>") for name in names] == [1] * 40


@pytest.mark.parametrize(
    "report", [make_report([]), make_report(["fc1"], run={}), make_report(measures={"x": torch.zeros(0)})]
)
def test_little_is_enough(report):
    assert "healthy" in html_page(report)


def random_run(layers, windows, neurons):
    names = [f"encoder.layers.{i}.linear" for i in range(layers)]
    single = [f"m{i}" for i in range(12)]
    report = None
    for index in range(windows):
        numbers = torch.rand(layers, len(single))
        made = {
            name: LayerReport(
                name,
                neurons,
                {
                    "on_rate": torch.rand(neurons),
                    "gradient_flow": torch.rand(neurons),
                    **dict(zip(single, row, strict=True)),
                },
            )
            for name, row in zip(names, numbers, strict=True)
        }
        report = replace(make_report([], index=index, previous=report), layers=made)
    return report


def test_is_small_where_the_run_is_large():
    assert len(html_page(random_run(200, 100, 64))) < 5_000_000


def test_there_are_fewer_windows_where_there_are_very_many_layers(monkeypatch):
    monkeypatch.setattr(page_data, "MEANS", 14 * 200 * 10)  # measures, layers, windows
    data = data_of(html_page(random_run(200, 30, 2)))
    assert len(data["windows"]) == 10
    assert len(data["layers"]) == 200
