"""What TensorBoard's own server shows in a browser."""

import re
import subprocess
import sys

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_neurohealth.reporting import pictures
from lightning_neurohealth.sinks import Loggers, Place
from tests.reporting.by_hand import make_finding, make_report
from tests.sinks.browser import browser, resize

TEXT = """
const found = [];
(function walk(node) {
  if (node.nodeType === Node.TEXT_NODE && node.textContent.trim()) found.push(node.textContent.trim());
  if (["STYLE", "SCRIPT", "TEMPLATE", "NOSCRIPT"].includes(node.tagName)) return;
  if (node.tagName === "IFRAME") walk(node.contentDocument.body);
  if (node.shadowRoot) walk(node.shadowRoot);
  node.childNodes.forEach(walk);
})(document.body);
return found;
"""
IMAGES = """
return [...document.querySelectorAll("image-card img")].filter((i) => i.complete && i.naturalWidth).map(
  (i) => Math.min(i.clientWidth / i.naturalWidth, i.clientHeight / i.naturalHeight))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    names = [f"encoder.layers.{i}.linear" for i in range(10)]
    logger = TensorBoardLogger(folder, name=None, version="")
    sink = Loggers()
    sink.open(Place(loggers=[logger]))
    report = None
    for index in range(4):
        found = [make_finding(names[2], severity=3, value=0.75)] if index else []
        report = make_report(names, found, index=index, previous=report)
        sink.write(report, report.step - 1)
    logger.finalize("success")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", "0", "--load_fast", "false"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://localhost:\d+", line)))
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def board(server):
    with browser() as driver:
        resize(driver, 1280)
        yield lambda tab: (driver.get(f"{server}/?tab={tab}#{tab}"), driver)[1]


def wait(driver, ready):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 60, poll_frequency=0.2).until(ready)


@pytest.mark.slow
def test_charts_stand_together_and_the_picture_is_legible(board):
    driver = board("timeseries")
    texts = wait(driver, lambda d: (found := d.execute_script(TEXT)).count("neurohealth") >= 5 and found)
    group = texts[texts.index("neurohealth") :]
    assert group[1] == "4 cards"
    assert [name for name in group if name in ("/dead_neurons", "/layers", "/on_rate", "/score")] == [
        "/dead_neurons",
        "/layers",
        "/on_rate",
        "/score",
    ]
    (scale,) = wait(driver, lambda d: d.execute_script(IMAGES))
    assert scale * pictures.FONT / 72 * pictures.DPI >= 8  # pixels that letters are high


@pytest.mark.slow
def test_the_table_is_a_table(board):
    texts = wait(board("text"), lambda d: "health" in (found := d.execute_script(TEXT)) and found)
    start = texts.index("layer")
    assert texts[start : start + 7] == ["layer", "activation", "neurons", "on rate", "zero", "spread", "gradient"]
    row = texts.index("encoder.layers.2.linear")
    assert texts[row : row + 8] == [
        "encoder.layers.2.linear",
        "relu",
        "4",
        "44%",
        "56%",
        "1.5",
        "0.031",
        "dead_neurons",
    ]
    assert "CRITICAL dead_neurons" in texts
    assert "lower the learning rate or warm it up" in texts
