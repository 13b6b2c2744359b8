"""Dead neurons: in networks, and at the edges of the rule."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from tests import networks
from tests.rules import by_hand
from tests.rules.trained import Trained

SICK = [
    networks.dead_by_bias,
    networks.dead_channels_behind_batch_norm,
    networks.dead_channels_of_a_1d_convolution,
    networks.dead_in_a_transformer,
    networks.dead_functional,
    networks.dead_generator,
    networks.dead_before_few_rows,
    networks.died_of_the_learning_rate,
]


@pytest.mark.parametrize("network", SICK, ids=lambda network: network.__name__)
def test_finds_them(network: Any) -> None:
    trained: Trained = network()
    (finding,) = [f for f in trained.found("dead_neurons") if f.layer == trained.layer]
    assert finding.severity == trained.severity
    # the weights still move a little within the last window
    assert len(set(finding.neurons) ^ trained.neurons) <= 0.02 * len(trained.neurons) + 1


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_there_are_none(network: Any) -> None:
    assert network().alarms("dead_neurons") == []


def test_tells_those_that_died_from_those_that_never_lived() -> None:
    born = next(f for f in networks.dead_by_bias().found("dead_neurons"))
    assert "since the start" in born.cause
    assert "died" not in born.cause
    trained = networks.died_of_the_learning_rate()
    died = next(f for f in trained.found("dead_neurons") if f.layer == trained.layer)
    assert "died while training" in died.cause
    assert "learning rate" in died.remedy
    assert trained.reports[0].of(trained.layer) == []


def test_names_the_layer_its_activation_and_the_pre_activation() -> None:
    finding = next(f for f in networks.dead_by_bias().found("dead_neurons"))
    assert "LeakyReLU" in finding.remedy
    assert finding.activation == "1"
    assert float(re.search(r"lies at (-[\d.]+)", finding.cause)[1]) < -15


# The rule alone


def measures(dead: int | Tensor, neurons: int = 100, rows: int = 1000) -> dict[str, Tensor]:
    """ReLU neurons of which the first ones, or those of a mask, never fire."""
    mask = torch.arange(neurons) < dead if isinstance(dead, int) else dead
    return {
        "on_rate": 0.5 * (~mask).double(),
        "zero_rate": 0.5 + 0.5 * mask.double(),
        "activation_std": (~mask).double(),
        "activation_rows": torch.tensor(float(rows)),
        "slope": 0.5 * (~mask).double(),
    }


def judge(now: dict[str, Tensor], past: Any = (), **facts: Any) -> Verdict | None:
    layer = facts.pop("layer", by_hand.layer())
    return DeadNeurons().judge(layer=layer, past=list(past), window=by_hand.window(**facts), **now)


@pytest.mark.parametrize(
    ("dead", "severity"),
    [
        (0, None),
        (4, None),
        (5, Severity.WARNING),
        (19, Severity.WARNING),
        (20, Severity.SERIOUS),
        (49, Severity.SERIOUS),
        (50, Severity.CRITICAL),
        (100, Severity.CRITICAL),
    ],
)
def test_bands(dead: int, severity: Severity | None) -> None:
    verdict = judge(measures(dead))
    if severity is None:
        assert verdict is None
    else:
        assert verdict.severity == severity
        assert verdict.value == dead / 100
        assert verdict.neurons == tuple(range(dead))
        assert verdict.threshold == {1: 0.05, 2: 0.2, 3: 0.5}[severity]


def test_bands_are_settings() -> None:
    rule = DeadNeurons(warning=0.5, serious=0.6, critical=0.7)
    arguments = {"layer": by_hand.layer(), "past": [], "window": by_hand.window()}
    assert rule.judge(**arguments, **measures(49)) is None
    assert rule.judge(**arguments, **measures(60)).severity == Severity.SERIOUS


@pytest.mark.parametrize(("rows", "epochs", "speaks"), [(999, 0.99, False), (1000, 0, True), (300, 1.0, True)])
def test_speaks_after_a_thousand_rows_or_an_epoch(rows: int, epochs: float, speaks: bool) -> None:
    assert (judge(measures(30, rows=rows), epochs=epochs) is not None) == speaks


def test_pools_windows_until_the_rows_suffice() -> None:
    one, both = measures(30, rows=400), [by_hand.past(measures(30, rows=400))] * 2
    assert judge(one, both[:1]) is None
    verdict = judge(one, both)
    assert verdict.severity == Severity.SERIOUS
    assert "1,200 rows" in verdict.message


def test_pools_the_share_of_an_epoch() -> None:
    earlier = [by_hand.past(measures(30, rows=100), epochs=0.5)]
    assert judge(measures(30, rows=100), earlier, epochs=0.5) is not None
    assert judge(measures(30, rows=100), earlier, epochs=0.4) is None


def test_one_that_fired_in_a_pooled_window_is_alive() -> None:
    earlier = measures(torch.arange(100) < 25, rows=600)
    verdict = judge(measures(30, rows=600), [by_hand.past(earlier)])
    assert verdict.neurons == tuple(range(25))


def test_one_that_fires_again_is_alive_whatever_it_was() -> None:
    assert judge(measures(0), [by_hand.past(measures(80))] * 3) is None


def test_old_windows_do_not_count_where_the_present_one_suffices() -> None:
    verdict = judge(measures(30), [by_hand.past(measures(0))] * 3)
    assert len(verdict.neurons) == 30


def test_a_neuron_that_fires_on_one_row_in_a_thousand_is_alive() -> None:
    now = measures(30)
    now["zero_rate"] = now["zero_rate"].clamp(max=0.999)
    for measure in ("on_rate", "activation_std", "slope"):
        now[measure] = now[measure].clamp(min=0.001)
    assert judge(now) is None


@pytest.mark.parametrize("rows", [1000, 3000, 50_000])
def test_says_how_often_they_may_fire_at_most(rows: int) -> None:
    bound = float(
        re.search(r"at most ([\d.]+)% of rows, at 95 % confidence", judge(measures(30, rows=rows)).message)[1]
    )
    assert bound / 100 == pytest.approx(3 / rows, rel=0.05, abs=5e-5)  # the rule of three


def test_learning_excuses_those_that_died_by_one_band() -> None:
    lived = [by_hand.past(measures(0))]
    assert judge(measures(50), lived).severity == Severity.CRITICAL
    assert judge(measures(50), lived, progress=by_hand.learning()).severity == Severity.SERIOUS
    assert judge(measures(20), lived, progress=by_hand.learning()).severity == Severity.WARNING
    assert judge(measures(5), lived, progress=by_hand.learning()) is None


def test_learning_does_not_excuse_those_that_never_lived() -> None:
    born = [by_hand.past(measures(50))]
    assert judge(measures(50), born, progress=by_hand.learning()).severity == Severity.CRITICAL


# What is dead


def constant(slope: float | None, zero: float = 0.0) -> dict[str, Tensor]:
    """All neurons give the same on every row."""
    now = measures(100)
    now["zero_rate"] = torch.full((100,), zero, dtype=torch.float64)
    now["on_rate"] = torch.full((100,), 1 - zero, dtype=torch.float64)
    if slope is None:
        del now["slope"]
    else:
        now["slope"] = torch.full((100,), slope, dtype=torch.float64)
    return now


@pytest.mark.parametrize("act", [nn.ReLU6(), nn.Hardtanh(), nn.Hardsigmoid()])
def test_stuck_at_a_flat_end_other_than_zero(act: nn.Module) -> None:
    assert judge(constant(slope=0.0), layer=by_hand.layer(act=act)).severity == Severity.CRITICAL


def test_a_constant_with_a_slope_is_not_dead() -> None:
    assert judge(constant(slope=1.0)) is None


@pytest.mark.parametrize("layer", [by_hand.linear(), by_hand.layer(act=nn.GELU()), by_hand.layer(act=nn.LeakyReLU())])
def test_zero_is_no_proof_where_no_slope_is_known(layer: Any) -> None:
    assert judge(constant(slope=None, zero=1.0), layer=layer) is None


def test_zero_is_proof_behind_a_relu() -> None:
    assert judge(constant(slope=None, zero=1.0)).severity == Severity.CRITICAL


def test_zero_with_a_slope_is_not_dead() -> None:
    assert judge(constant(slope=1e-9, zero=1.0), layer=by_hand.layer(act=nn.SiLU())) is None
