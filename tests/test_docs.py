"""What the documentation shows is run, and what it quotes is so."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from docs.messages import conditions, example, with_examples
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.rules import all_rules
from tests.measures.harness import Batches

ROOT = Path(__file__).parents[1]
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(text: str, title: str) -> str:
    """All code under one title, in its order."""
    return "\n".join(re.findall(rf'^```\w+ title="{re.escape(title)}"\n(.*?)^```', text, re.MULTILINE | re.DOTALL))


@pytest.fixture
def my_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of the page, installed."""
    (tmp_path / "my_health.py").write_text(blocks(EXTENDING, "my_health.py"))
    info = tmp_path / "my_health-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-health\nVersion: 1.0\n")
    entry_points = blocks(EXTENDING, "pyproject.toml").replace('project.entry-points."', "").replace('"', "")
    (info / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield
    forget()
    del sys.modules["my_health"]


def forget() -> None:
    all_measures.cache_clear()
    all_rules.cache_clear()
    importlib.invalidate_caches()


@pytest.mark.usefixtures("my_health")
def test_a_measure_a_rule_and_a_sink_of_ones_own() -> None:
    torch.manual_seed(0)
    exec(blocks(EXTENDING, "train.py"), {"__name__": "train"})
    assert "outlier_neurons" in all_rules()


@pytest.mark.usefixtures("my_health")
def test_the_test_of_the_measure() -> None:
    written: dict[str, Any] = {}
    exec(blocks(EXTENDING, "tests/measures/test_activation_range.py"), written)
    test = written["test_is_the_largest_less_the_smallest"]
    rows = (torch.tensor([[1.0, -1.0], [2.0, 5.0]]), torch.tensor([[0.0, 3.0]]))
    test(Batches(rows))


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_a_new_user_reads_an_example_that_runs(page: str) -> None:
    code = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8").partition('"""\n\n')[2]
    assert f"```python\n{code}```\n" in (ROOT / page).read_text(encoding="utf-8")


def test_there_is_a_training_for_what_each_rule_says() -> None:
    assert conditions() == sorted(all_rules())


def test_each_rule_of_the_catalogue_gets_what_it_says() -> None:
    page = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    made = with_examples(page, {rule: f"EXAMPLE {rule}\n" for rule in all_rules()})
    for rule in all_rules():
        assert re.search(rf"^### {rule}\n\n[^\n]+\n\nEXAMPLE {rule}\n\n\*\*What it finds", made, re.MULTILINE)
    assert made.count("EXAMPLE") == len(all_rules())


def test_an_example_is_what_a_run_has_said() -> None:
    said = example("no_gradient")
    assert re.search(r"^> \*\*(SERIOUS|CRITICAL) no_gradient\*\* in \S+: .+", said, re.MULTILINE)
    assert re.search(r"^> \*do\* \S", said, re.MULTILINE)
    with pytest.raises(LookupError, match=r"no training .* in which hiccups is found"):
        example("hiccups")
