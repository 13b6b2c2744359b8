"""The documentation is read from disk, without a server and without the network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.sinks.browser import browser, errors

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page in the real dress; the others need trainings."""
    config = pytest.importorskip("mkdocs.config")
    build = pytest.importorskip("mkdocs.commands.build").build
    folder = tmp_path_factory.mktemp("site")
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text("# Start\n\n## Saturated tanh\n\nToo large a weight.\n", encoding="utf-8")
    shutil.copy(ROOT / "docs" / "iframe-worker.js", folder / "docs")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    text = re.sub(r"^(hooks|extra_css|nav):.*\n(?:  .*\n)*", "", text, flags=re.MULTILINE)
    (folder / "mkdocs.yml").write_text(text, encoding="utf-8")
    build(config.load_config(str(folder / "mkdocs.yml"), site_dir=str(folder / "out")))
    return folder / "out"


def test_nothing_is_fetched_from_the_network(site: Path) -> None:
    for page in site.glob("*.html"):
        assert not re.findall(r'(?:src|rel="stylesheet" href)="https?://[^"]+"', page.read_text(encoding="utf-8"))


def test_the_search_works_from_disk(site: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    with browser() as driver:
        driver.get((site / "index.html").as_uri())
        field = driver.find_element("css selector", "input.md-search__input")
        driver.execute_script("arguments[0].focus()", field)
        field.send_keys("saturated")
        titles = "return [...document.querySelectorAll('.md-search-result__item h2')].map((t) => t.textContent)"
        WebDriverWait(driver, 20).until(lambda d: d.execute_script(titles))
        assert driver.execute_script(titles) == ["Saturated tanh"]
        assert errors(driver) == []
