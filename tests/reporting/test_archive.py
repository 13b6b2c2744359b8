"""A run's reports survive being written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_neurohealth import Report, Severity
from lightning_neurohealth.coverage import Coverage
from lightning_neurohealth.life import Life
from lightning_neurohealth.record import LayerReport
from lightning_neurohealth.reporting import archive, lives
from lightning_neurohealth.reporting.archive import SchemaError, from_document, to_document
from lightning_neurohealth.reporting.history import History
from lightning_neurohealth.reporting.shapes import learned_shapes
from lightning_neurohealth.reporting.thin_layers import ThinLayers
from tests.reporting.by_hand import make_finding, make_report
from tests.rules import by_hand
from tests.training import MLP, fit

NAME = 'a/b [0], "q"\n</script>ä🎉'


def chain(windows: int = 3) -> Report:
    report = None
    for index in range(windows):
        found = (
            [make_finding(NAME, neurons=(1, 3), value=math.inf, learning_rate=0.01), make_finding(None, "plateau", 1)]
            if index
            else []
        )
        report = make_report(
            [NAME, "head"],
            found,
            index=index,
            previous=report,
            measures={"slope": torch.full((4,), index / 8), "dormancy": torch.tensor([math.nan, 1, 2, 3])},
            recovered=[make_finding("head", "saturation", 1)] if index == 2 else (),
            missed=["lstm"],
            last=index == windows - 1,
        )
    assert report is not None
    return replace(report, not_judged={"r": "needs s"}, parameters={"w": {"gradient_norm": torch.tensor(0.5)}})


def back(report: Report) -> Report:
    return from_document(json.loads(report.to_json()), Report)


def same(a: Any, b: Any) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=1e-6, equal_nan=True)


def test_the_last_window_comes_back_whole() -> None:
    report = chain()
    read = back(report)
    assert read.to_dict() == report.to_dict()
    assert (read.last, read.severity, read.coverage) == (True, Severity.SERIOUS, report.coverage)
    assert list(read) == list(report)
    for name, layer in report.layers.items():
        assert read[name].severity == layer.severity
        assert (read[name].neurons, read[name].function, read[name].activation) == (4, layer.function, layer.activation)
        assert set(read[name]) == set(layer)
        assert all(same(read[name][measure], layer[measure]) for measure in layer)
    assert same(read.run["train_loss"], report.run["train_loss"])
    assert same(read.parameters["w"]["gradient_norm"], torch.tensor(0.5))
    assert str(read) == str(report)


def test_windows_before_come_back_with_means_and_the_neurons_that_were_chosen() -> None:
    first = back(chain()).previous.previous
    assert first is not None
    assert first.previous is None
    assert (first.index, first.step, first.findings) == (0, 40, [])
    assert first[NAME]["on_rate"].tolist() == [0.0, 0.25, 0.5, 1.0]
    assert first[NAME]["zero_rate"].item() == pytest.approx(0.5625)
    assert first[NAME]["dormancy"].isnan()


def lived(windows: int = 3) -> Report:
    """A chain of windows; 2 and 3 die in the first, 2 comes back in the second, 0 never was alive."""
    life = Life.of(torch.tensor([True, False, False, False]))
    reports = list(reversed([*each(chain(windows))]))
    previous = None
    for index, report in enumerate(reports):
        silent = torch.tensor([True, False, index == 0, True])
        life.observe(silent, 20_000.0, by_hand.window(seen=20 * (index + 1), learning_rate=0.1))
        healthy = Life.of(torch.zeros(4, dtype=torch.bool))
        now = {NAME: life.copy(), "head": healthy}
        layers = {n: replace(x, life=now[n]) for n, x in report.layers.items()}
        previous = replace(report, layers=layers, previous=previous)
    assert previous is not None
    return previous


def each(report: Report | None) -> Iterator[Report]:
    while report is not None:
        yield report
        report = report.previous


def test_who_has_died_and_come_back_is_kept_of_every_window() -> None:
    report = lived()
    for was, now in zip(each(report), each(back(report)), strict=True):
        for name in was:
            for field in fields(Life):
                before, after = (getattr(r[name].life, field.name) for r in (was, now))
                assert after.dtype == before.dtype
                assert torch.equal(after.nan_to_num(-1.0), before.float().to(before.dtype).nan_to_num(-1.0))
        assert now.to_dict()["life"] == was.to_dict()["life"]
    assert back(report)[NAME].life.confirmed().tolist() == [True, False, False, True]
    assert back(chain())[NAME].life is None


def test_lives_in_plain_words() -> None:
    found = [report.to_dict()["life"] for report in each(lived())]
    assert found[0] == {NAME: {"silent": {"0": [0, 3]}, "born": [0], "revived": {"40": [2]}, "deaths": 2}}
    assert found[2] == {NAME: {"silent": {"0": [0, 2, 3]}, "born": [0], "revived": {}, "deaths": 2}}
    assert chain().to_dict()["life"] == {}


def test_of_too_many_lives_the_ends_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "ENTRIES", 3 * 3)
    assert [report[NAME].life is None for report in each(back(lived(5)))] == [False, True, False, True, False]


def test_learned_shapes_are_kept_of_some_windows() -> None:
    report = None
    for index in range(30):
        shape = torch.linspace(-3, 3, 5) * (index + 1)
        report = make_report(["fc1", "head"], index=index, previous=report, measures={"learned_shape": shape})
    assert report is not None
    found = learned_shapes(History.of(back(report)), "fc1")
    assert len(found) == archive.SHAPES
    assert [found[0][0], found[-1][0]] == [0, 29]
    for window, shape in found:
        assert torch.equal(shape.float(), torch.linspace(-3, 3, 5) * (window + 1))
    labels = [[line.get_label() for line in r.plot("learned_shape", "fc1")[1].lines] for r in (report, back(report))]
    assert len(labels[0]) == len(labels[1]) > 3


def test_what_watching_has_taken_comes_back() -> None:
    read = back(replace(chain(), every_n_steps=7, overhead=0.04))
    assert (read.every_n_steps, read.overhead) == (7, 0.04)
    read = back(replace(chain(), every_n_steps=7))
    assert (read.every_n_steps, read.overhead) == (7, None)


def test_writing_what_was_read_gives_the_same() -> None:
    once = back(chain()).to_json()
    assert from_document(json.loads(once), Report).to_json() == once


def test_a_layer_that_was_missing_in_a_window_is_missing_again() -> None:
    first = make_report(["fc1", "head"])
    read = back(make_report(["fc1", "mid", "head"], index=1, previous=first))
    assert list(read) == ["fc1", "mid", "head"]
    assert list(read.previous) == ["fc1", "head"]


def test_of_too_many_numbers_the_ends_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "NUMBERS", 3 * 8)
    report: Report | None = back(chain(9))
    kept = []
    while report is not None:
        kept.append(report["head"]["on_rate"].numel() == 4)
        report = report.previous
    assert kept == [True, False, False, False, True, False, False, False, True]


def test_a_long_run_is_read_without_a_tensor_for_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "NUMBERS", 0)
    middle = back(chain(30)).previous
    assert isinstance(middle.layers, ThinLayers)
    assert middle.layers.means.numbers.untyped_storage().nbytes() == 30 * 4 * sum(map(len, middle.values()))


def test_windows_that_kept_no_neurons_do_no_harm() -> None:
    first = make_report(["fc1", "head"], measures={"on_rate": torch.tensor(0.25)})
    read = back(make_report(["fc1", "head"], index=1, previous=first))
    assert read.previous["fc1"]["on_rate"].item() == 0.25
    assert read["fc1"]["on_rate"].numel() == 4


def test_a_report_without_layers() -> None:
    assert back(make_report([])).score == 1.0


def test_a_real_run(tmp_path: Path) -> None:
    report = fit(MLP(), max_epochs=2).report
    report.save(tmp_path / "report.json")
    read = Report.load(tmp_path)
    assert read.to_dict() == report.to_dict()
    assert str(read) == str(report)
    assert read.previous.step == report.previous.step
    before, after = (r.to_frame().set_index(["window", "layer", "measure"]).sort_index() for r in (report, read))
    assert list(after.index) == list(before.index)
    assert after.value.tolist() == pytest.approx(before.value.tolist(), rel=1e-5, nan_ok=True)


# What cannot be read


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = json.loads(json.dumps(to_document(chain())))
    change(document)
    return document


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "is no report"),
        ({"kind": "cake"}, "is no report"),
        (changed(lambda d: d.update(schema=archive.SCHEMA + 1)), "reads up to 1; pip install --upgrade"),
        (changed(lambda d: d.update(schema="x")), "has schema 'x'"),
        (changed(lambda d: d.pop("windows")), "is damaged: KeyError"),
        (changed(lambda d: d.update(windows=[])), "is damaged"),
        (changed(lambda d: d["measures"]["on_rate"]["means"].update(shape=[7])), "is damaged"),
        (changed(lambda d: d["windows"][1]["findings"][0].update(severity="FINE")), "is damaged"),
        (changed(lambda d: d["windows"][0].update(layers=[99])), "is damaged"),
        (changed(lambda d: d.update(last=3)), "is damaged"),
    ],
)
def test_a_document_that_cannot_be_read_says_why(document: Any, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        from_document(document, Report)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    for text, said in (("{", "is no JSON"), ("{}", "is no report"), ("\udcff", "is no JSON")):
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(SchemaError, match=f"report.json {said}"):
            Report.load(file)


@pytest.mark.parametrize("place", ["neurohealth/report.json", "report.json"])
def test_a_run_is_found_by_its_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    make_report().save(tmp_path / place)
    assert Report.load(str(tmp_path)).step == 40


def test_a_folder_without_a_report_is_answered_with_those_below(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        Report.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no neurohealth/report.json; give the log directory"):
        Report.load(tmp_path)
    folder = tmp_path / "lightning_logs" / "version_3" / "neurohealth"
    folder.mkdir(parents=True)
    make_report().save(folder / "report.json")
    with pytest.raises(FileNotFoundError, match=r"there is one in .*version_3"):
        Report.load(tmp_path)


def test_save_knows_three_formats(tmp_path: Path) -> None:
    report = make_report()
    report.save(tmp_path / "x.CSV")
    assert (tmp_path / "x.CSV").read_text().startswith("window,epoch,step,layer,measure,value\n")
    with pytest.raises(ValueError, match=r"must end in .html, .json or .csv"):
        report.save(tmp_path / "x.txt")


def test_neurons_of_a_layer_whose_size_is_one() -> None:
    layer = LayerReport("a", 1, {"on_rate": torch.tensor([0.5])})
    report = replace(make_report([]), layers={"a": layer}, coverage=Coverage(("a",)))
    assert back(replace(report, index=1, previous=report)).previous["a"]["on_rate"].tolist() == [0.5]
