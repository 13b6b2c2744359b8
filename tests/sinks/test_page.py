"""The page as a sink."""

import sys

from lightning_neurohealth.reporting.page import html_page
from lightning_neurohealth.sinks import Page, Place
from tests.reporting.pages import chain, unpacked

PARTS = ("data", "planes")


def test_says_which_run_it_is(tmp_path):
    sink = Page()
    sink.open(Place(folder=tmp_path / "logs" / "version_<3>" / "neurohealth"))
    sink.close(chain(1))
    page = (sink.place.folder / "report.html").read_text(encoding="utf-8")
    assert "<title>Neuron health of logs/version_&lt;3&gt;</title>" in page


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
