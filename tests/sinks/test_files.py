import csv
import json

import pandas as pd
import pytest
import torch

from lightning_neurohealth import Report
from lightning_neurohealth.sinks import Files, Place, files
from tests.reporting.by_hand import make_finding, make_report

NAME = 'a/b [0], "q"\nz|;ä'


@pytest.fixture
def sink(tmp_path):
    sink = Files()
    sink.open(Place(folder=tmp_path / "logs" / "neurohealth"))
    return sink


def read(sink, name):
    return (sink.place.folder / name).read_text(encoding="utf-8")


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_findings_of_every_window(sink):
    reports = [make_report(), make_report(index=1, findings=[make_finding(neurons=(1, 3))], last=True)]
    for report in reports:
        sink.write(report, report.step)
        assert strict(read(sink, "findings.json"))[-1] == report.to_dict() | {
            "findings": [f.to_dict() for f in report.findings]
        }
    windows = strict(read(sink, "findings.json"))
    assert [window["index"] for window in windows] == [0, 1]
    assert windows[1]["findings"][0]["neurons"] == [1, 3]


@pytest.mark.parametrize(("value", "text"), [("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")])
def test_what_json_has_no_number_for_is_a_string(sink, value, text):
    finding = make_finding(value=float(value), threshold=torch.tensor(0.5))
    sink.write(make_report(findings=[finding]), 0)
    found = strict(read(sink, "findings.json"))[0]["findings"][0]
    assert found["value"] == text
    assert found["threshold"] == 0.5
    assert float(found["value"]) == pytest.approx(float(value), nan_ok=True)


def test_measures(sink):
    sink.write(make_report(["fc1", "head"]), 0)
    sink.write(make_report(["fc1", "head"], index=1), 1)
    table = pd.read_csv(sink.place.folder / "measures.csv", keep_default_na=False)
    assert list(table) == ["window", "epoch", "step", "layer", "measure", "mean", "min", "max", "neurons"]
    assert len(table) == 2 * (2 * 4 + 1)
    row = table[(table.window == 1) & (table.layer == "fc1") & (table.measure == "on_rate")].iloc[0]
    assert row.tolist() == [1, 1, 80, "fc1", "on_rate", 0.4375, 0.0, 1.0, 4]
    run = table[table.layer == ""]
    assert run.measure.tolist() == ["train_loss"] * 2
    assert run[["mean", "min", "max", "neurons"]].values.tolist() == [[1.5, 1.0, 2.0, 2]] * 2


def test_nan_and_empty_measures(sink):
    values = torch.tensor([float("nan"), 1.0])
    sink.write(make_report(["fc1"], measures={"dormancy": values}, run={"train_loss": torch.tensor([])}), 0)
    table = pd.read_csv(sink.place.folder / "measures.csv")
    assert table[table.measure == "dormancy"][["mean", "min", "max"]].isna().all(axis=None)
    assert "train_loss" not in set(table.measure)


def test_any_name_survives(sink):
    sink.write(make_report([NAME, "head"], [make_finding(NAME)]), 0)
    with (sink.place.folder / "measures.csv").open(newline="", encoding="utf-8") as file:
        assert {row["layer"] for row in csv.DictReader(file)} == {NAME, "head", ""}
    assert strict(read(sink, "findings.json"))[0]["findings"][0]["layer"] == NAME


def test_health_is_the_last_report(sink):
    for report in (make_report(), make_report(index=1, findings=[make_finding()])):
        sink.write(report, 0)
        assert read(sink, "health.txt") == f"{report}\n"


def test_the_end_of_a_run_leaves_what_load_reads(sink):
    first = make_report(["fc1", "head"])
    last = make_report(["fc1", "head"], index=1, findings=[make_finding()], previous=first, last=True)
    for report in (first, last):
        sink.write(report, 0)
    assert Report.load(sink.place.folder.parent).index == 0
    sink.close(last)
    read_back = Report.load(sink.place.folder.parent)
    assert str(read_back) == str(last)
    assert read_back.previous.step == first.step


@pytest.mark.parametrize("same", [True, False])
def test_a_second_run_in_the_same_folder_begins_anew(sink, same):
    sink.write(make_report(findings=[make_finding()]), 0)
    sink.close(make_report())
    again = sink if same else Files()
    again.open(sink.place)
    assert strict(read(again, "findings.json")) == []
    assert read(again, "measures.csv").splitlines() == ["window,epoch,step,layer,measure,mean,min,max,neurons"]
    assert not (again.place.folder / "health.txt").exists()
    assert not (again.place.folder / "report.json").exists()
    again.write(make_report(index=7), 0)
    assert [window["index"] for window in strict(read(again, "findings.json"))] == [7]


def test_a_long_run_rewrites_the_list_rarely_and_loses_nothing(sink, monkeypatch):
    writes = []
    original = Files._write_findings
    monkeypatch.setattr(Files, "_write_findings", lambda self, folder: (writes.append(1), original(self, folder)))
    monkeypatch.setattr(files, "EACH", 10)
    for index in range(44):
        sink.write(make_report(["fc1"], index=index), 0)
        assert len(strict(read(sink, "findings.json"))) >= 0.9 * (index + 1)
    assert len(writes) == 10 + 5 + 3 + 3  # each up to 10 windows, then one in two, three, four
    sink.close(None)
    assert [window["index"] for window in strict(read(sink, "findings.json"))] == list(range(44))


def test_a_write_that_fails_leaves_the_old_file(sink, monkeypatch):
    sink.write(make_report(), 0)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        sink.write(make_report(index=1), 0)
    assert [window["index"] for window in strict(read(sink, "findings.json"))] == [0]


def test_nothing_else_is_left(sink):
    sink.write(make_report(), 0)
    sink.close(make_report())
    assert sorted(path.name for path in sink.place.folder.iterdir()) == [
        "findings.json",
        "health.txt",
        "measures.csv",
        "report.json",
    ]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sink = Files()
    sink.open(Place(folder=None))
    sink.write(make_report(), 0)
    sink.close(make_report())
    assert list(tmp_path.iterdir()) == []
