"""Two runs side by side."""

from __future__ import annotations

import io

import rich.console
import torch
from rich.cells import cell_len

from lightning_neurohealth import Report
from lightning_neurohealth.reporting.comparison import Comparison
from tests.reporting.by_hand import make_finding, make_report

LONG = "b" * 200


def report(
    *findings: tuple[str | None, int], names: tuple[str, ...] = ("fc1", "fc2", "head"), rate: float = 0.5
) -> Report:
    found = [make_finding(layer, severity=severity) for layer, severity in findings]
    return make_report(names, found, measures={"on_rate": torch.full((4,), rate)})


def printed(comparison: Comparison, width: int = 100, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    rich.console.Console(file=file, width=width, color_system=None).print(comparison)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_graver_is_worse_and_milder_is_better() -> None:
    both = Comparison(report(("fc1", 2), ("fc2", 3), ("head", 1)), report(("fc1", 3), ("fc2", 1), ("head", 1)))
    assert both.worse == ["fc1"]
    assert both.better == ["fc2"]


def test_appeared_and_recovered() -> None:
    both = Comparison(report(("fc1", 1)), report(("fc2", 1)))
    assert both.worse == ["fc2"]
    assert both.better == ["fc1"]


def test_the_run_counts_too_and_so_does_a_module_that_is_no_layer() -> None:
    assert Comparison(report(), report((None, 1))).worse == ["run"]
    assert Comparison(report(("embed", 2)), report((None, 1))).better == ["run"]


def test_layers_of_one_run_alone_are_neither() -> None:
    both = Comparison(report(("fc2", 3)), report(names=("fc1", "new")))
    assert both.worse == both.better == []
    text = printed(both)
    assert "only in A: fc2, head\n" in text
    assert "only in B: new\n" in text


def test_says_from_what_to_what_with_the_numbers_that_moved() -> None:
    text = printed(Comparison(report(rate=0.5), report(("fc2", 2), rate=0.125), ("old", "new")))
    assert "A old: step 40, healthy\n" in text
    assert "B new: step 40, 1 finding, worst SERIOUS (score 0.78)\n" in text
    assert "worse:\n  fc2: healthy → SERIOUS dead_neurons (on rate 50% → 12%)\n" in text
    assert "healthy in both: fc1, head\n" in text


def test_what_stays_sick_is_said() -> None:
    assert "as sick as before: fc1, SERIOUS dead_neurons" in printed(Comparison(report(("fc1", 2)), report(("fc1", 2))))


def test_fits_any_terminal() -> None:
    both = Comparison(report(names=(LONG, "head")), report((LONG, 3), names=(LONG, "head"), rate=0))
    for encoding in ("utf-8", "ascii"):
        text = printed(both, 40, encoding)
        assert max(map(cell_len, text.splitlines())) <= 40
        assert "CRITICAL" in text
