"""What a browser makes of the page."""

import math

import pytest
import torch

from tests.reporting.by_hand import make_report
from tests.reporting.pages import chain, learned
from tests.sinks.browser import browser, dark, errors, resize

LONG = f"net.{'a_rather_long_name_' * 9}[0]/w.fc"


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
