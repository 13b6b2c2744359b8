"""The report of a window."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_neurohealth import Monitor, Report, Severity
from lightning_neurohealth.coverage import Coverage
from tests.reporting.by_hand import make_finding, make_report

NAMES = ("fc1", "fc2", "head")
FINDINGS = [
    make_finding("fc1", "dead_neurons", Severity.CRITICAL, neurons=(0, 2)),
    make_finding("fc2", "saturation", Severity.WARNING, value=0.7, cause="its weights are large", remedy="Xavier"),
    make_finding(None, "exploding_gradients", Severity.SERIOUS, value=300.0, cause="cliffs", remedy="clip the norm"),
]


def all_of(severity: Severity) -> list:
    return [make_finding(name, severity=severity) for name in NAMES]


# A mapping


def test_is_a_mapping_of_layers_in_the_order_of_execution() -> None:
    report = make_report(NAMES)
    assert isinstance(report, Mapping)
    assert list(report) == list(NAMES)
    assert len(report) == 3
    assert "fc1" in report
    assert "fc9" not in report
    assert report.get("fc9") is None


def test_layers_are_mappings_of_measures() -> None:
    layer = make_report(NAMES)["fc1"]
    assert isinstance(layer, Mapping)
    assert dict(layer) == layer.measures
    assert torch.equal(layer["on_rate"], torch.tensor([0.0, 0.25, 0.5, 1.0]))
    assert len(layer) == len(list(layer))


def test_an_unknown_layer_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(KeyError, match="no layer is called 'fc9'; there are fc1, fc2, head"):
        make_report(NAMES)["fc9"]


def test_a_layer_that_was_missed_is_answered_with_the_reason() -> None:
    report = replace(make_report(NAMES), coverage=Coverage(missed={"fc9": "never called"}))
    with pytest.raises(KeyError, match=r"'fc9' \(never called\)"):
        report["fc9"]


def test_an_unknown_measure_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(KeyError, match="fc1 has no measure 'fire_rate' in this window; it has on_rate, zero_rate"):
        make_report(NAMES)["fc1"]["fire_rate"]


def test_comes_from_a_run_in_the_order_of_execution() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x).relu())

    net = Backwards()
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        net(torch.ones(5, 3)).sum().backward()
    report = monitor.close()
    monitor.remove()
    assert list(report) == ["first", "last"]
    assert report["first"].neurons == report["first"]["on_rate"].numel() == 4
    assert report["last"].output


# Score


def test_score_is_one_where_nothing_was_found() -> None:
    assert make_report(NAMES).score == 1.0
    assert make_report(()).score == 1.0


def test_score_is_zero_where_every_layer_is_critical() -> None:
    assert make_report(NAMES, all_of(Severity.CRITICAL)).score == 0.0
    assert make_report(NAMES, [make_finding(None, severity=Severity.CRITICAL)]).score == 0.0


def test_score_is_one_minus_the_mean_severity() -> None:
    assert make_report(NAMES, all_of(Severity.WARNING)).score == pytest.approx(2 / 3)
    assert make_report(NAMES, FINDINGS[:2]).score == pytest.approx(1 - (3 + 1 + 0) / 9)


def test_a_finding_on_the_run_counts_for_every_layer_but_not_twice() -> None:
    assert make_report(NAMES, FINDINGS).score == pytest.approx(1 - (3 + 2 + 2) / 9)
    elsewhere = [make_finding("a.module.without.neurons", severity=Severity.SERIOUS)]
    assert make_report(NAMES, elsewhere).score == pytest.approx(1 - 2 / 3)


def test_several_findings_on_a_layer_count_once() -> None:
    twice = [FINDINGS[0], make_finding("fc1", "saturation", Severity.WARNING)]
    assert make_report(NAMES, twice).score == make_report(NAMES, twice[:1]).score


def test_severity_is_the_worst() -> None:
    assert make_report(NAMES).severity == Severity.HEALTHY
    assert make_report(NAMES, FINDINGS).severity == Severity.CRITICAL


# What others read


def test_scalars_are_the_score_and_the_worst_value_of_each_condition() -> None:
    twice = [make_finding("fc1", severity=3, value=0.6), make_finding("fc2", severity=1, value=0.1)]
    report = make_report(NAMES, twice, recovered=[make_finding("head", "saturation", value=0.9)])
    assert report.scalars() == {"score": report.score, "dead_neurons": 0.6, "saturation": 0.0}


def test_findings_of_a_layer_and_of_the_run() -> None:
    report = make_report(NAMES, FINDINGS)
    assert [f.condition for f in report.of("fc1")] == ["dead_neurons"]
    assert [f.condition for f in report.of(None)] == ["exploding_gradients"]
    assert report.of("head") == []


def test_to_dict_survives_json() -> None:
    report = replace(
        make_report(NAMES, FINDINGS, recovered=FINDINGS[:1]),
        coverage=Coverage(("fc1",), {"fc9": "never called"}, 0.5),
        not_judged={"dormant_neurons": "needs dormancy"},
    )
    facts = json.loads(json.dumps(report.to_dict()))
    assert facts == report.to_dict()
    assert facts["score"] == report.score
    assert facts["severity"] == "CRITICAL"
    assert facts["findings"][0]["neurons"] == [0, 2]
    assert facts["findings"][0]["since"] == [0, 40]
    assert facts["coverage"] == {
        "watched": ["fc1"],
        "missed": {"fc9": "never called"},
        "unfed": [],
        "parameters": 0.5,
        "shares": {},
        "elsewhere": {},
    }
    assert facts["not_judged"] == {"dormant_neurons": "needs dormancy"}
    assert len(facts["recovered"]) == 1


def flat(text: str) -> str:
    """Without line breaks, which depend on the width."""
    return " ".join(text.split())


def test_text_holds_what_was_found_why_and_what_to_do() -> None:
    text = flat(str(make_report(NAMES, FINDINGS)))
    for finding in FINDINGS:
        for part in (finding.condition, finding.severity.name, finding.message, finding.cause, finding.remedy):
            assert flat(part) in text
    places = [text.index(f.message) for f in make_report(NAMES, FINDINGS).findings]
    assert places == sorted(places)


def test_text_of_a_healthy_report() -> None:
    text = str(make_report(NAMES))
    assert "healthy" in text
    assert all(name in text for name in NAMES)


def test_html_holds_the_same() -> None:
    html = make_report(NAMES, FINDINGS)._repr_html_()
    assert html.startswith("<pre")
    assert "dead_neurons" in html
    assert "Xavier" in html


def test_knows_its_predecessor() -> None:
    first = make_report(NAMES)
    second: Report = make_report(NAMES, index=1, previous=first)
    assert second.previous is first
    assert "previous" not in repr(second)
