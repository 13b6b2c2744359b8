"""Findings that say the same of several layers are told together."""

from __future__ import annotations

import pytest

from lightning_neurohealth import Finding
from lightning_neurohealth.reporting.groups import grouped
from tests.reporting.by_hand import make_finding


def sizes(findings: list[Finding]) -> list[int]:
    return [len(group.findings) for group in grouped(findings)]


def of(layer: str, cause: str = "", **more: object) -> Finding:
    return make_finding(layer, cause=cause or f"z of {layer} lies at -{len(layer)}.5", **more)


NAMES = ["enc.fc1", "enc.fc2", "enc.fc11", "enc.fc"]


def test_numbers_and_the_layers_own_name_make_no_difference() -> None:
    assert sizes([of(name) for name in NAMES]) == [4]
    assert sizes([make_finding(n, activation=f"{n}.act", remedy=f"replace {n}.act") for n in NAMES]) == [4]


def test_a_list_of_layers_may_hold_the_own_one() -> None:
    """What stands before the first dead layers gets no gradient; they are among what it says of each."""
    cause = f"no neuron of {', '.join(NAMES[:2])} has any slope"
    assert sizes([of(name, cause) for name in NAMES]) == [4]


@pytest.mark.parametrize(
    "other",
    [
        {"cause": "it was dead at the first step"},
        {"condition": "saturation"},
        {"remedy": "do nothing"},
        {"cause": "z of enc.fc9 lies at -3"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_word_does(other: dict[str, str]) -> None:
    assert sizes([*(of(name) for name in NAMES[:3]), of("head", **other)]) == [3, 1]


def test_two_are_told_one_after_the_other() -> None:
    assert sizes([of("a"), of("b")]) == [1, 1]


def test_findings_on_the_run_stand_alone() -> None:
    assert sizes([make_finding(None, "plateau")] * 3) == [1, 1, 1]


def test_a_group_stands_where_its_worst_does() -> None:
    found = grouped([of("a", severity=3), of("x", "else", severity=3), of("b"), of("c", severity=1)])
    assert [[f.layer for f in group.findings] for group in found] == [["a", "b", "c"], ["x"]]
    assert found[0].count == "3 layers (1 CRITICAL, 1 SERIOUS, 1 WARNING)"
