"""Steps that are too large for the weights: in networks, and at the edges of the rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.update_ratio_high import UpdateRatioHigh
from tests import networks
from tests.rules import by_hand, sick_runs, tempting_runs

SICK = [
    sick_runs.adam_a_thousand_times_too_fast,
    sick_runs.adam_in_a_transformer,
    sick_runs.gradient_descent_that_kills,
    sick_runs.convolutions_thrown_about,
    sick_runs.thrown_away_later,
]
HEALTHY = [*networks.HEALTHY, *tempting_runs.HEALTHY]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    (finding,) = network().found("update_ratio_high")
    assert finding.severity >= Severity.SERIOUS
    assert "divide the learning rate by" in finding.remedy


def test_names_the_rate_and_by_how_much_to_lower_it() -> None:
    (finding,) = sick_runs.adam_a_thousand_times_too_fast().found("update_ratio_high")
    assert "the learning rate is 1;" in finding.cause + ";"
    assert "from 1 to 0.00" in finding.remedy


@pytest.mark.parametrize("network", HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_are_none(network: Any) -> None:
    assert [f for report in network().reports for f in report.findings if f.condition == "update_ratio_high"] == []


# The rule alone


def judge(
    *ratios: float,
    first: tuple[float, ...] = (),
    before: Any = (),
    norms: tuple[float, float] | None = None,
    **facts: Any,
) -> Verdict | None:
    """Of layers with these update ratios, now, at the first step and before; ``norms`` at the start and now."""
    names = [f"fc{i + 1}" for i in range(len(ratios))]

    def of(values: Any) -> Any:
        return by_hand.numbers(**{f"{name}.weight": value for name, value in zip(names, values, strict=True)})

    def sizes(norm: float) -> Any:
        return {name: torch.full((4,), norm) for name in names}

    initial = {"update_ratio": of(first)} if first else {}
    verdicts = list(
        UpdateRatioHigh().judge(
            window=by_hand.window(**facts),
            past=[by_hand.past({"update_ratio": of(values)}) for values in before],
            layers={name: by_hand.layer(name=name) for name in names},
            parameters=by_hand.parameters(*names),
            initial=initial if norms is None else {**initial, "weight_norm": sizes(norms[0])},
            update_ratio=of(ratios),
            weight_norm=None if norms is None else sizes(norms[1]),
        )
    )
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def level(verdict: Verdict | None) -> Severity | None:
    return verdict and verdict.severity


@pytest.mark.parametrize(
    ("ratio", "severity"),
    [(0.09, None), (0.11, Severity.SERIOUS), (0.9, Severity.SERIOUS), (1.1, Severity.CRITICAL), (math.nan, None)],
)
def test_bands(ratio: float, severity: Severity | None) -> None:
    assert level(judge(ratio, ratio)) == severity


@pytest.mark.parametrize(("now", "decayed"), [(0.09, True), (0.11, False)])
def test_tells_a_decay_that_takes_its_share_of_the_weights(now: float, decayed: bool) -> None:
    verdict = judge(0.11, 0.11, norms=(1.0, now))
    assert ("their decay outweighs" in verdict.cause) == ("weight_decay" in verdict.remedy) == decayed
    assert level(verdict) == Severity.SERIOUS


def test_the_median_over_matrices_counts() -> None:
    assert judge(0.5, 0.001, 0.001) is None
    assert judge(0.5, 0.5, 0.001).value == 0.5


def test_a_network_that_learns_gets_a_warning_and_none_in_its_first_window() -> None:
    assert level(judge(0.2, 0.2, progress=by_hand.learning())) == Severity.WARNING
    assert judge(0.2, 0.2, progress=by_hand.learning(), index=0) is None


def test_a_first_step_that_replaced_the_weights_is_remembered_until_something_is_learned() -> None:
    assert level(judge(0.01, 0.01, first=(1.5, 1.5))) == Severity.SERIOUS
    assert judge(0.01, 0.01, first=(0.9, 0.9)) is None
    assert judge(0.01, 0.01, first=(1.5, 1.5), progress=by_hand.learning()) is None
    assert "the first step" in judge(0.01, 0.01, first=(1.5, 1.5)).message


def test_so_is_a_window_that_did() -> None:
    assert level(judge(0.0, 0.0, before=[(0.01, 0.01), (3.0, 3.0), (0.0, 0.0)])) == Severity.SERIOUS
    assert judge(0.0, 0.0, before=[(0.01, 0.01), (0.3, 0.3)]) is None


def test_less_counts_where_weights_or_loss_were_thrown() -> None:
    thrown = {"before": [(0.3, 0.3)]}
    assert level(judge(0.0, 0.0, **thrown, norms=(1.0, 6.0))) == Severity.SERIOUS
    assert judge(0.0, 0.0, **thrown, norms=(1.0, 4.0)) is None
    assert level(judge(0.0, 0.0, **thrown, progress=by_hand.rising())) == Severity.SERIOUS
    assert judge(0.0, 0.0, before=[(0.05, 0.05)], norms=(1.0, 6.0)) is None


def test_weights_that_begin_at_zero_are_left_out() -> None:
    assert judge(0.5, 0.001, first=(math.nan, 0.001)) is None
    assert judge(0.5, 0.5, norms=(0.0, 1.0)) is None


def test_one_matrix_that_is_replaced_at_each_step_is_named() -> None:
    verdict = judge(0.001, 0.001, 2.0)
    assert (verdict.layer, verdict.severity) == ("fc3", Severity.SERIOUS)
    assert "parameter group" in verdict.cause
    assert judge(0.001, 0.001, 2.0, index=0) is None


def test_where_the_loss_says_nothing_only_replaced_weights_do() -> None:
    adversarial = by_hand.losses(*[1.0] * 40, adversarial=True)
    assert judge(0.5, 0.5, progress=adversarial) is None
    assert level(judge(1.5, 1.5, progress=adversarial)) == Severity.SERIOUS
    assert judge(0.01, 0.01, first=(1.5, 1.5), progress=adversarial) is None


def test_the_factor_fits_the_ratio() -> None:
    assert "by 100 (from 0.1 to 0.001)" in judge(0.5, 0.5, learning_rate=0.1).remedy
    assert "by 1000," in judge(2.0, 2.0).remedy
