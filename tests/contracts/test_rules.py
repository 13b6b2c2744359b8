"""What holds for every rule, and what is said of one that is written or set wrongly."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from torch import Tensor

import lightning_neurohealth.rules
from lightning_neurohealth.discovery import snake_case
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.rules import LayerRule, Rule, RunRule, all_rules

HERE = Path(__file__)
HELPERS = {"__init__", "base", "causes_of_death", "depth", "evidence", "initial_scales", "remembering", "thresholds"}
BANDS = ("warning", "serious", "critical")
BANDED = [kind for kind in all_rules().values() if sum(hasattr(kind(), band) for band in BANDS) > 1]

every_rule = pytest.mark.parametrize("rule", all_rules().values(), ids=all_rules())
every_banded_rule = pytest.mark.parametrize("rule", BANDED, ids=[r.name for r in BANDED])


def test_every_file_holds_the_rule_of_its_name() -> None:
    files = {path.stem for path in Path(lightning_neurohealth.rules.__path__[0]).glob("*.py")} - HELPERS
    assert files == set(all_rules())


@every_rule
def test_one_name_leads_to_all_places(rule: type[Rule]) -> None:
    assert rule.name == snake_case(rule.__name__) == Path(inspect.getfile(rule)).stem
    assert (HERE.parents[1] / "rules" / f"test_{rule.name}.py").exists()


@every_rule
@pytest.mark.parametrize("part", ["What it finds: ", "Why it hurts: ", "Remedies: ", "Sources?: "])
def test_explains_itself(rule: type[Rule], part: str) -> None:
    assert re.search(part + r"\S", vars(rule)["__doc__"])


@every_rule
def test_needs_measures_that_there_are(rule: type[Rule]) -> None:
    assert rule.needs
    assert set(rule.needs) <= set(all_measures())
    assert rule.scope == ("layer" if issubclass(rule, LayerRule) else "run")


def settings(rule: type[Rule]) -> list[str]:
    return [field.name for field in fields(rule)]


@every_rule
def test_negative_settings_are_refused(rule: type[Rule]) -> None:
    for field in settings(rule):
        with pytest.raises(ValueError, match=rf"{rule.__name__}\({field}=-1\): must not be negative"):
            rule(**{field: -1})


@every_rule
def test_no_window_at_all_is_refused(rule: type[Rule]) -> None:
    with pytest.raises(ValueError, match=rf"{rule.__name__}\(windows=0\): must be at least 1"):
        rule(windows=0)


def bands(rule: type[Rule]) -> dict[str, float]:
    """The thresholds of its severities, in their order."""
    return {band: getattr(rule(), band) for band in BANDS if hasattr(rule(), band)}


@every_banded_rule
def test_thresholds_out_of_order_are_refused(rule: type[Rule]) -> None:
    first, *rest = bands(rule)
    given = dict(zip([first, *rest], [*list(bands(rule).values())[1:], bands(rule)[first]], strict=True))
    shown = ", ".join(f"{name}={value}" for name, value in given.items())
    with pytest.raises(ValueError, match=re.escape(f"{rule.__name__}({shown})") + ".*order"):
        rule(**given)


@every_banded_rule
def test_thresholds_reversed_as_a_whole_are_refused(rule: type[Rule]) -> None:
    values = list(bands(rule).values())
    way = "rising" if values[0] < values[-1] else "falling"
    with pytest.raises(ValueError, match=f"{rule.__name__}.*thresholds must be in order, {way} from warning"):
        rule(**dict(zip(bands(rule), reversed(values), strict=True)))


@every_rule
@pytest.mark.parametrize("value", ["a", None, True, [0.5], 0.5j], ids=repr)
def test_what_is_no_number_is_refused(rule: type[Rule], value: object) -> None:
    for field in settings(rule):
        said = re.escape(f"{rule.__name__}({field}={value!r}): must be a ")
        with pytest.raises(TypeError, match=said + "(whole )?number, as"):
            rule(**{field: value})


@every_rule
def test_what_counts_is_whole_and_what_measures_is_no_nan(rule: type[Rule]) -> None:
    for field in settings(rule):
        if isinstance(getattr(rule(), field), int):
            with pytest.raises(TypeError, match=rf"{rule.__name__}\({field}=1.5\): must be a whole number"):
                rule(**{field: 1.5})
        else:
            with pytest.raises(ValueError, match=rf"{rule.__name__}\({field}=nan\): must be a number"):
                rule(**{field: float("nan")})


def test_a_rule_without_usual_thresholds_takes_either_order() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Neutral(LayerRule):
        warning: float
        critical: float

        def judge(self, on_rate: Tensor) -> None:
            return None

    assert Neutral(warning=0.1, critical=0.9) != Neutral(warning=0.9, critical=0.1)


@every_banded_rule
def test_defaults_are_allowed_when_given(rule: type[Rule]) -> None:
    assert rule(**bands(rule)) == rule()


# A rule that is written wrongly is refused as soon as its class is defined.


@pytest.mark.parametrize("scope", [LayerRule, RunRule])
def test_unknown_measure_is_refused_with_what_comes_near(scope: type[Rule]) -> None:
    with pytest.raises(TypeError) as error:

        @dataclass(frozen=True, kw_only=True)
        class Wrong(scope):  # type: ignore[misc, valid-type]
            def judge(self, layer: object, on_rates: Tensor) -> None:
                return None

    said = str(error.value)
    assert str(HERE) in said
    assert "Wrong.judge" in said
    assert "'on_rates'" in said
    assert "did you mean 'on_rate'" in said


def test_a_right_one_says_what_it_needs() -> None:
    @dataclass(frozen=True, kw_only=True)
    class WellWritten(LayerRule):
        def judge(self, layer: object, on_rate: Tensor, slope: Tensor | None = None) -> None:
            return None

    assert WellWritten.name == "well_written"
    assert WellWritten.needs == {"on_rate": False, "slope": True}
