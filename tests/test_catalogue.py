"""The catalogue says of every measure and rule what its class says, and the page in docs is up to date."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from torch import Tensor

from lightning_neurohealth import catalogue as page
from lightning_neurohealth.__main__ import main
from lightning_neurohealth.catalogue import catalogue
from lightning_neurohealth.measures import Measure, all_measures
from lightning_neurohealth.rules import LayerRule, all_rules
from lightning_neurohealth.statistics.moments import Moments

PAGE = Path(__file__).parents[1] / "docs" / "catalogue.md"
SECTIONS = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", catalogue(), re.MULTILINE | re.DOTALL))


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == catalogue(), (
        "docs/catalogue.md is stale: python -m lightning_neurohealth catalogue > docs/catalogue.md"
    )


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue"]) == 0
    assert capsys.readouterr().out == catalogue()


def test_has_every_measure_and_rule() -> None:
    assert list(SECTIONS) == [*all_rules(), *map(page._title, all_measures())]
    assert len(set(SECTIONS)) == len(all_rules()) + len(all_measures())


@pytest.mark.parametrize("name", all_measures())
def test_a_measure_has_formula_set_and_what_it_reads(name: str) -> None:
    text = SECTIONS[page._title(name)]
    assert re.search(r"^\*\*Formula\*\*: \S", text, re.MULTILINE)
    reads = re.search(r"^\*\*Reads\*\*: (.*)$", text, re.MULTILINE)
    assert f"`{all_measures()[name].level}`" in reads[1]
    assert all(f"{signal.value} (" in reads[1] for signal in all_measures()[name].needs)


@pytest.mark.parametrize("name", all_rules())
def test_a_rule_explains_itself_and_each_setting(name: str) -> None:
    text, rule = SECTIONS[name], all_rules()[name]()
    for part in ("What it finds", "Why it hurts", "Remedies", "Sources", "Needs"):
        assert re.search(rf"^\*\*{part}\*\*: \S", text, re.MULTILINE), part
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \| \S.* \|$", text, re.MULTILINE))
    assert {field: float(value) for field, value in rows.items()} == {
        f.name: getattr(rule, f.name) for f in fields(rule)
    }


# What it makes of a class


class Bulk(Measure):
    """Σ |w|, ``[neurons]``, as in :class:`~lightning_neurohealth.statistics.moments.Moments`.

    0: nothing.

    More of it.

    Source: nobody (2000).
    """

    level = "full"

    def compute(self, weight: Moments) -> Tensor:
        return weight.sums


class Flow(Measure):
    """E |g|, ``[neurons]``.

    Sources: nobody, anybody.
    """

    def compute(self, activation_gradient: Moments) -> Tensor:
        return activation_gradient.sums


@dataclass(frozen=True, kw_only=True)
class Heavy(LayerRule):
    """What it finds: neurons that
    weigh much.

    Why it hurts: they do.

    Remedies: none.

    Source: nobody.

    Attributes:
        most, least: Bounds of the
            weight.
    """

    most: float = 1e-5
    least: int = 2

    def judge(self, weight_norm: Tensor, on_rate: Tensor | None = None) -> None:
        return None


def test_a_measure_of_weights_needs_neither_data_nor_gradients() -> None:
    of = "a layer or its neurons"
    assert page._measure_row(Bulk())[1:] == (of, "full", "no", "no", "once a window", "nobody (2000)")
    assert page._measure_row(Flow())[1:] == (
        *(of, "standard", "yes", "yes"),
        *("a pass over their gradients", "nobody, anybody"),
    )
    text = page._measure(Bulk())
    assert "**Formula**: Σ |w|, `[neurons]`, as in `Moments`.\n\n**How to read**: 0: nothing.\n\nMore of it." in text
    assert "**Source**: nobody (2000)" in text


def test_a_rule_has_its_settings_and_those_of_all_rules() -> None:
    text = page._rule(Heavy())
    assert "**What it finds**: neurons that weigh much." in text
    assert "**Sources**: nobody." in text
    assert "[on_rate](#on_rate) (if measured), [weight_norm](#weight_norm)" in text
    assert "| `most` | 1e-05 | Bounds of the weight. |" in text
    assert "| `least` | 2 | Bounds of the weight. |" in text
    assert "| `windows` | 2 | In how many windows" in text
    assert page._rule_row(Heavy())[1:] == ("each layer", "standard", "no", "no")


@pytest.mark.parametrize("name", all_measures())
def test_the_cost_of_every_measure_is_known(name: str) -> None:
    assert page._cost(all_measures()[name])
