"""The page: what is in it, and what a browser makes of it."""

import base64
import gzip
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from lightning_neurohealth.report import LayerReport
from lightning_neurohealth.sinks import Page, Place, page_data
from lightning_neurohealth.sinks.page import html_page
from tests.sinks.browser import browser, dark, errors, resize
from tests.sinks.conftest import make_finding, make_report

EVIL = "<script>alert(1)</script>\"'&lt;${x}\n🎉"
LONG = "block." + "n" * 194
PARTS = ("data", "planes")
NAMES = ["fc1", EVIL, LONG, "head"]


def chain(windows=4, names=NAMES):
    """Neuron 1 falls silent in window 1 and fires again in window 3; the second layer is sick from window 1 on."""
    report = None
    for index in range(windows):
        found = [make_finding(names[1], severity=3, neurons=(0,))] if index else []
        found += [make_finding("fc1", "saturation", 1)] if index == 1 else []
        found += [make_finding(None, "plateau", 2, value=math.nan)] if index >= 2 else []
        silent = 0.0 if index in (1, 2) else 0.25
        measures = {
            "on_rate": torch.tensor([0.0, silent, 0.5, 1.0]),
            "slope": torch.full((4,), math.nan),
            "gradient_flow": torch.tensor([math.inf, 1e-9, 1.0, 100.0]),
            "activation_scale": torch.tensor(0.0),
        }
        run = {"train_loss": torch.linspace(2, 1, 40), "validation_loss": torch.tensor([1.5])}
        report = make_report(
            names, found, index=index, previous=report, measures=measures, run=run, missed=[EVIL], last=index == 3
        )
    return report


class Elements(HTMLParser):
    """The tags of a page, and the text outside scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [("", {})], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data if self.tags[-1][0] not in ("script", "style") else ""


def unpacked(page, element):
    packed = re.search(rf'id="{element}">([A-Za-z0-9+/=]*)</script>', page)[1]
    return gzip.decompress(base64.b64decode(packed))


def data_of(page):
    """What the page's script draws, with the numbers of its tables."""
    data = json.loads(unpacked(page, "data"), parse_constant=pytest.fail)
    planes = np.frombuffer(unpacked(page, "planes"), np.uint8).reshape(3, -1)
    numbers = np.vstack([planes, np.zeros_like(planes[:1])]).T.copy().view(">f4").ravel()

    def table(start, rows, columns):
        return numbers[start : start + rows * columns].reshape(rows, columns).tolist()

    for measure in data["measures"].values():
        measure["means"] = table(*measure["means"])
    for layer in data["neurons"].values():
        for entry in layer["measures"].values():
            entry["values"] = table(*entry["values"])
    for shapes in data["shapes"].values():
        for shape in shapes:
            (shape[1],) = table(*shape[1])
    return data


LONG = f"net.{'a_rather_long_name_' * 9}[0]/w.fc"


# What is in it


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


def test_says_which_run_it_is(tmp_path):
    sink = Page()
    sink.open(Place(folder=tmp_path / "logs" / "version_<3>" / "neurohealth"))
    sink.close(chain(1))
    page = (sink.place.folder / "report.html").read_text(encoding="utf-8")
    assert "<title>Neuron health of logs/version_&lt;3&gt;</title>" in page


def test_each_stretch_of_a_finding_on_the_run_is_marked():
    report = None
    for index, sick in enumerate([1, 1, 0, 1]):
        report = make_report(findings=[make_finding(None, "plateau", 1)] * sick, index=index, previous=report)
    assert data_of(html_page(report))["run"] == [[1, "plateau", 0, 80], [1, "plateau", 120, 160]]


def learned():
    """A report and the one before; the activation of the first layer has learned its shape."""
    report = None
    for index in range(2):
        report = make_report(["fc1", "head"], index=index, previous=report)
        shape = torch.linspace(-3, 3, 5) * (index + 1)
        layer = replace(report["fc1"], measures={**report["fc1"].measures, "learned_shape": shape})
        report = replace(report, layers={**report.layers, "fc1": layer})
    return report


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


# As a sink


def test_is_written_when_the_run_ends(tmp_path):
    sink = Page()
    (tmp_path / "report.html").write_text("of the run before")
    sink.open(Place(folder=tmp_path))
    sink.write(chain(1), 0)
    assert list(tmp_path.iterdir()) == []
    sink.close(chain())
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [unpacked(written, part) for part in PARTS] == [unpacked(html_page(chain()), part) for part in PARTS]


def test_without_windows_or_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sink = Page()
    sink.open(Place(folder=None))
    sink.close(chain(1))
    sink.open(Place(folder=tmp_path))
    sink.close(None)
    assert list(tmp_path.iterdir()) == []


def test_without_plotly_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    said = []
    sink = Page()
    sink.open(Place(folder=tmp_path, echo=said.append))
    sink.close(chain(1))
    assert said == [
        "NeuronHealth: report.html needs plotly and is not written: pip install 'lightning-neurohealth[page]'"
    ]
    assert list(tmp_path.iterdir()) == []


# In a browser


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    chain().save(file)
    with browser() as driver:
        resize(driver, 1280)
        driver.get(file.as_uri())
        wait(driver, "return document.body.dataset.ready === 'yes'")
        yield driver


def wait(driver, script, seconds=20):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, seconds, poll_frequency=0.05).until(lambda d: d.execute_script(script))


@pytest.fixture
def page(opened):
    opened.refresh()
    wait(opened, "return document.body.dataset.ready === 'yes'")
    yield opened
    assert errors(opened) == []


def change(driver, element, value):
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
    script += "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'));"
    driver.execute_script(script, element, value)


def heat(driver, chart="heatmap"):
    return driver.execute_script("return document.getElementById(arguments[0]).data[0].z", chart)


def labels(driver):
    return driver.execute_script(
        "return [...document.querySelectorAll('#heatmap .ytick text')].map((t) => t.textContent)"
    )


def text(driver, element):
    return driver.execute_script("return document.getElementById(arguments[0]).textContent", element)


def test_browser_draws_every_chart(page):
    drawn = page.execute_script("return [...document.querySelectorAll('.js-plotly-plot')].map((chart) => chart.id)")
    assert drawn == ["heatmap", "neurons", "scale", "gradient", "loss"]
    assert labels(page) == ["fc1", "<script>ale…1)</script>\"'&lt;${x}\\n🎉", "b." + "n" * 9 + "…" + "n" * 24, "head"]
    assert text(page, "trouble") == ""


def test_browser_names_each_row_of_many(opened, tmp_path):
    names = [f"encoder.layers.{i // 4}.block.{'qkvo'[i % 4]}.linear" for i in range(200)]
    make_report(names).save(tmp_path / "many.html")
    resize(opened, 390)
    opened.get((tmp_path / "many.html").as_uri())
    wait(opened, "return document.body.dataset.ready === 'yes'")
    resize(opened, 1280)
    found = labels(opened)
    assert len(set(found)) == 200
    assert text(opened, "silence") == "1 never fired in the last window; no neuron fell silent or fired again."
    lines = "return [...document.querySelectorAll('#heatmap .ytick text')].map((t) => t.getBoundingClientRect().left)"
    assert min(opened.execute_script(lines)) >= 0
    sides = "return ['heatmap', 'neurons'].map((id) => document.getElementById(id).layout.xaxis.side)"
    assert opened.execute_script(sides) == ["top", "bottom"]  # what is too tall is read from its top
    opened.back()


def test_browser_says_that_a_chart_is_empty(opened, tmp_path):
    nan = torch.full((2,), float("nan"))
    numbers = {"activation_scale": nan[0], "gradient_rms": nan[0]}
    make_report(["fc1", "fc2"], measures=numbers, run={"train_loss": nan}).save(tmp_path / "nan.html")
    opened.get((tmp_path / "nan.html").as_uri())
    wait(opened, "return document.body.dataset.ready === 'yes'")
    notes = "return ['scale', 'gradient', 'loss'].map((id) => document.getElementById(id).layout.annotations[0].text)"
    assert opened.execute_script(notes) == ["no finite number above 0"] * 2 + ["no finite loss"]
    assert errors(opened) == []
    opened.back()


def test_browser_says_where_zero_lies_on_a_logarithmic_axis(opened, tmp_path):
    names = ["fc1", "fc2", LONG]
    numbers = {"activation_scale": torch.tensor(0.0), "gradient_rms": torch.tensor(0.5)}
    make_report(names, measures=numbers).save(tmp_path / "zero.html")
    opened.get((tmp_path / "zero.html").as_uri())
    wait(opened, "return document.body.dataset.ready === 'yes'")
    notes = "(id) => document.getElementById(id).layout.annotations.map((a) => a.text)"
    notes = f"return ['scale', 'gradient'].map({notes})"
    assert opened.execute_script(notes) == [["0", "no finite number above 0"], []]
    change(opened, "which", "2")
    options = "return [...document.getElementById('which').options].map((o) => o.text.length)"
    assert max(opened.execute_script(options)) <= 36
    assert text(opened, "facts").startswith(f"{LONG}: 4 neurons")
    opened.back()


def test_browser_switches_measures(page):
    assert heat(page)[0] == [pytest.approx(m, rel=5e-3) for m in (0.438, 0.375, 0.375, 0.438)]
    assert "P(a > 0)" in text(page, "about")
    change(page, "measure", "zero_rate")
    assert heat(page)[0] == [pytest.approx(0.5625, rel=5e-3)] * 4
    change(page, "measure", "slope")
    assert heat(page) == [[None] * 4] * 4


def test_browser_filters_layers(page):
    change(page, "search", "BLOCK")
    assert len(heat(page)) == 1
    assert text(page, "count") == "1 of 4 layers"
    change(page, "search", "no such layer")
    assert text(page, "count") == "0 of 4 layers"
    change(page, "search", "")
    page.find_element("id", "sick").click()
    assert text(page, "count") == "2 of 4 layers"


def test_browser_leads_from_a_finding_to_its_layer(page):
    change(page, "which", "0")
    page.find_element("css selector", "button.go").click()
    assert page.execute_script("return document.activeElement.id") == "which"
    assert page.find_element("id", "which").get_attribute("value") == "1"
    assert "dead neurons" in text(page, "facts")


def test_browser_leads_from_a_row_to_its_layer(page):
    from selenium.webdriver import ActionChains

    tick = page.find_elements("css selector", "#heatmap .ytick text")[2]
    chart = page.find_element("css selector", "#heatmap .nsewdrag")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
    middle = tick.rect["y"] + tick.rect["height"] / 2 - chart.rect["y"] - chart.rect["height"] / 2
    ActionChains(page).move_to_element_with_offset(chart, 40, int(middle)).pause(0.2).click().perform()
    wait(page, "return document.getElementById('which').value === '2'", 3)


def test_browser_tells_numbers_where_the_mouse_is(page):
    from selenium.webdriver import ActionChains

    chart = page.find_element("css selector", "#heatmap .nsewdrag")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
    corner = [int(5 - chart.rect[side] / 2) for side in ("width", "height")]
    ActionChains(page).move_to_element_with_offset(chart, *corner).perform()
    wait(page, "return document.querySelector('#heatmap .hovertext')")
    hover = page.find_element("css selector", "#heatmap .hovertext").text
    assert hover == "fc1epoch 0, step 40on_rate: 43.8 %"  # a line each


def test_browser_leads_from_the_search_to_the_first_layer(page):
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", "search").send_keys("hea", Keys.ENTER)
    assert page.find_element("id", "which").get_attribute("value") == "3"
    assert text(page, "silence").startswith("1 never fired in the last window")


def test_browser_marks_the_lowest_validation_loss(opened, tmp_path):
    report = None
    for index, loss in enumerate([2.0, math.nan, 1.0, 3.0]):
        run = {"train_loss": torch.tensor([2.0, 1.0]), "validation_loss": torch.tensor([loss])}
        report = make_report(index=index, previous=report, run=run)
    report.save(tmp_path / "x.html")
    opened.get((tmp_path / "x.html").as_uri())
    wait(opened, "return document.body.dataset.ready === 'yes'")
    low = opened.execute_script("return document.getElementById('loss').data.at(-1)")
    assert (low["name"], low["x"], low["y"]) == ("lowest validation", [120], [1])
    opened.back()


def test_browser_shows_deaths_and_revivals(page):
    change(page, "which", "0")
    assert heat(page, "neurons")[1] == [0.25, 0, 0, 0.25]
    assert "1 never fired in the last window; once a neuron fell silent (▼), once one fired again (▲)" in text(
        page, "silence"
    )
    marks = page.execute_script(
        "return document.getElementById('neurons').data.slice(1).map((t) => [t.name, t.x, t.y])"
    )
    assert marks == [["died", [1], [1]], ["revived", [3], [1]]]
    change(page, "of-neurons", "gradient_flow")
    assert heat(page, "neurons")[3] == [2] * 4  # its logarithm
    assert heat(page, "neurons")[0] == [None] * 4


def test_browser_draws_the_shape_that_an_activation_has_learned(opened, tmp_path):
    learned().save(tmp_path / "learned.html")
    opened.get((tmp_path / "learned.html").as_uri())
    wait(opened, "return document.body.dataset.ready === 'yes'")
    drawn = opened.execute_script("return document.getElementById('shape').data.map((t) => [t.name, t.x, t.y])")
    places = [-3, -1.5, 0, 1.5, 3]
    assert drawn == [["step 40", places, places], ["step 80", places, [-6, -3, 0, 3, 6]]]
    change(opened, "which", "1")
    assert opened.execute_script("return document.getElementById('shape').hidden")
    assert errors(opened) == []
    opened.back()


def test_browser_works_with_the_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", "measure").send_keys("slo")
    assert page.find_element("id", "measure").get_attribute("value") == "slope"
    go = page.find_element("css selector", "button.go")
    go.send_keys(Keys.ENTER)
    assert page.find_element("id", "which").get_attribute("value") == "1"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("at_night", [False, True])
def test_browser_fits_any_screen(page, width, at_night):
    resize(page, width)
    dark(page, at_night)
    page.refresh()
    wait(page, "return document.body.dataset.ready === 'yes'")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    inks = page.execute_script(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor].map("
        "(c) => c.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b))"
    )
    assert (inks[0] > inks[1]) == at_night
    assert abs(inks[0] - inks[1]) > 500


def test_browser_follows_a_change_of_light(page):
    dark(page, False)
    page.refresh()
    wait(page, "return document.body.dataset.ready === 'yes'")
    before = page.execute_script("return document.getElementById('loss').layout.font.color")
    dark(page, True)
    wait(page, f"return document.getElementById('loss').layout.font.color !== '{before}'")


def test_browser_shows_a_report_without_layers(opened, tmp_path):
    make_report([]).save(tmp_path / "empty.html")
    opened.get((tmp_path / "empty.html").as_uri())
    wait(opened, "return document.body.dataset.ready === 'yes'")
    assert errors(opened) == []
    links = "return [...document.querySelectorAll('nav a')].filter((a) => a.offsetParent).map((a) => a.textContent)"
    assert opened.execute_script(links) == ["Findings", "Loss", "Coverage"]
    opened.back()
