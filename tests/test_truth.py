"""The zoo of known truth: its quick part in full, and how a score comes about."""

from __future__ import annotations

import pytest

from benchmarks import truth
from benchmarks.truth import Outcome, Score
from benchmarks.zoo.training import SPECIMENS, Seen, Specimen, WrongSpecimenError, check
from lightning_neurohealth import Finding, Report, Severity

QUICK = [specimen for specimen in SPECIMENS if specimen.quick]
SICK = Specimen("sick", lambda: Seen([]), "dead_neurons", Severity.SERIOUS)
HEALTHY = Specimen("healthy", lambda: Seen([]))


@pytest.mark.parametrize("specimen", QUICK, ids=lambda specimen: specimen.name)
def test_finds_what_is_sick_where_it_is_and_nothing_else(specimen: Specimen) -> None:
    (outcome,) = truth.run([specimen.name]).outcomes
    assert outcome.right, truth.faults(Score((outcome,)))


def test_there_are_enough_of_every_kind() -> None:
    conditions = [s.condition for s in SPECIMENS if s.condition]
    assert len(SPECIMENS) >= 30
    assert len(SPECIMENS) - len(conditions) >= 15
    assert all(conditions.count(condition) >= 2 for condition in conditions)
    assert len({s.name for s in SPECIMENS}) == len(SPECIMENS)


def finding(
    condition: str = "dead_neurons", severity: Severity = Severity.SERIOUS, layer: str | None = "fc"
) -> Finding:
    return Finding(condition, severity, layer)


def outcome(specimen: Specimen, *windows: list[Finding], layers: set[str] | None = None, first: int = 0) -> Outcome:
    """Of a specimen of whose windows these were the findings."""
    reports = [Report(i, 0, 0, 1, 1, {}, findings=found) for i, found in enumerate(windows)]
    seen = Seen(reports, frozenset(layers or ()), first)
    return truth.judge(Specimen("one", lambda: seen, specimen.condition, specimen.severity))


def test_a_fault_is_found_from_its_window_on() -> None:
    found = outcome(SICK, [], [], [finding()], [finding()], layers={"fc"}, first=1)
    assert (found.windows, found.placed, found.right) == (2, True, True)


@pytest.mark.parametrize(
    "said", [finding("saturation"), finding(severity=Severity.WARNING)], ids=["another condition", "too mild"]
)
def test_what_else_is_said_does_not_count(said: Finding) -> None:
    missed = outcome(SICK, [said], layers={"fc"})
    assert (missed.findings, missed.windows, missed.right) == ((), None, False)


def test_the_worst_finding_must_name_the_layer() -> None:
    assert outcome(SICK, [finding(), finding(layer="head")], layers={"fc"}).placed is True
    assert outcome(SICK, [finding(layer="head"), finding()], layers={"fc"}).placed is False
    assert outcome(SICK, [finding(layer=None)]).placed is None


def test_a_healthy_one_may_have_warnings_only() -> None:
    assert outcome(HEALTHY, [finding(severity=Severity.WARNING)], []).right
    assert not outcome(HEALTHY, [finding()], []).right


def test_shares_and_the_bar() -> None:
    right, missed = outcome(SICK, [finding()], layers={"fc"}), outcome(SICK, [])
    misplaced, alarm = outcome(SICK, [finding(layer="head")], layers={"fc"}), outcome(HEALTHY, [finding()])
    score = Score((*[right] * 18, misplaced, missed, alarm))
    assert (score.recall, score.localisation, score.alarms) == (19 / 20, 18 / 19, 1)
    assert not score.passed
    assert Score((*[right] * 19, missed)).passed
    assert not Score((*[right] * 18, missed)).passed
    assert not Score((*[right] * 8, misplaced)).passed
    assert len(truth.faults(score)) == 3


def test_a_specimen_that_is_not_what_it_says_fails_the_benchmark() -> None:
    def run() -> Seen:
        check(False, "it is sick")
        return Seen([])

    wrong = truth.judge(Specimen("one", run, "dead_neurons"))
    assert "it is sick" in truth.faults(Score((wrong,)))[0]
    assert not Score((wrong,)).passed
    with pytest.raises(WrongSpecimenError):
        run()
