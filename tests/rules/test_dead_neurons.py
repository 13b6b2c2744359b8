"""Dead neurons: in networks, and at the edges of the rule."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.activations import HEADS
from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from tests import networks
from tests.rules import by_hand
from tests.rules.deaths import bias, judge, measures, reach
from tests.rules.trained import Trained

SICK = [
    networks.dead_by_bias,
    networks.dead_channels_behind_batch_norm,
    networks.dead_channels_of_a_1d_convolution,
    networks.dead_in_a_transformer,
    networks.dead_head_of_attention,
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


def test_one_head_of_many_is_named() -> None:
    """Though one of 32 is less than a twentieth."""
    (finding,) = networks.dead_head_of_attention().found("dead_neurons")
    assert finding.message.startswith("1 of 4 heads of block.self_attn.heads gave")
    layer = Layer("heads", 32, -2, torch.device("cpu"), HEADS, channels=8)
    now = {name: m for name, m in measures(1, 32).items() if name != "slope"}
    verdict = judge(now, [now] * 3, layer=layer)
    assert (verdict.severity, verdict.neurons) == (Severity.WARNING, (0,))
    assert "mask" in verdict.cause
    assert judge({**now, "zero_rate": now["zero_rate"] - 1e-6}, layer=layer) is None


# The rule alone


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
    assert judge(measures(49), rule=rule) is None
    assert judge(measures(60), rule=rule).severity == Severity.SERIOUS


@pytest.mark.parametrize(("rows", "epochs", "speaks"), [(999, 0.99, False), (1000, 0, True), (300, 1.0, True)])
def test_speaks_after_a_thousand_rows_or_an_epoch(rows: int, epochs: float, speaks: bool) -> None:
    assert (judge(measures(30, rows=rows), epochs=epochs) is not None) == speaks


def test_a_few_steps_of_many_places_prove_nothing() -> None:
    assert judge(measures(30, rows=100_000), measured=4) is None
    assert judge(measures(30, rows=100_000), measured=5) is not None


@pytest.mark.parametrize(
    ("negativity", "mean", "rows", "speaks"),
    [
        (-15.0, -1.001, 100, True),
        (-15.0, -1.001, 99, False),
        (-15.0, -0.9, 100, False),  # nine deviations deep
        (-15.0, -2.001, 25, True),  # twice as deep
        (-15.0, -9.0, 24, False),
        (-0.3, -10.0, 100, False),  # one strong input, seldom seen, may wake it
    ],
)
def test_a_tenth_of_the_rows_is_enough_where_the_bias_outweighs_the_weights(
    negativity: float, mean: float, rows: int, speaks: bool
) -> None:
    depth = {"preactivation_mean": torch.full((100,), mean), "preactivation_std": torch.full((100,), 0.1)}
    verdict = judge(measures(30, rows=rows), evidence={**bias(negativity), **depth})
    assert (verdict is not None) == speaks


@pytest.mark.parametrize(("dead", "rows", "speaks"), [(50, 300, True), (50, 299, False), (49, 300, False)])
def test_half_of_a_layer_falls_silent_by_no_chance(dead: int, rows: int, speaks: bool) -> None:
    assert (judge(measures(dead, rows=rows)) is not None) == speaks
    assert judge(measures(dead, rows=rows), progress=LEARNING) is None


@pytest.mark.parametrize(
    ("neurons", "rows", "measured", "speaks"),
    [(100, 100, 2, True), (100, 99, 20, False), (100, 100, 1, False), (4, 250, 5, True), (4, 250, 4, False)],
)
def test_a_layer_falls_silent_as_a_whole_by_no_chance(neurons: int, rows: int, measured: int, speaks: bool) -> None:
    verdict = judge(measures(neurons, neurons, rows), layer=by_hand.layer(neurons), measured=measured)
    assert (verdict is not None) == speaks


@pytest.mark.parametrize(
    ("act", "weights", "speaks"),
    [(nn.ReLU(), 0.0, True), (nn.ReLU(), 0.05, False), (nn.Hardtanh(), 0.0, False)],
    ids=["no weight above 0", "some", "flat from -1 on only"],
)
def test_a_few_rows_are_enough_where_no_input_can_wake_it(act: nn.Module, weights: float, speaks: bool) -> None:
    size = {"weight_norm": torch.full((100,), 2.0, dtype=torch.float64)}
    verdict = judge(
        measures(30, rows=8), layer=by_hand.layer(act=act), evidence={**bias(-0.05), **reach(weights - 0.1), **size}
    )
    assert (verdict is not None) == speaks


def test_confirms_death_after_three_windows() -> None:
    assert "confirmed" not in judge(measures(30), [measures(30)]).message
    assert "; all confirmed dead" in judge(measures(30), [measures(30)] * 2).message
    assert "; 25 confirmed dead" in judge(measures(30), [measures(25)] * 2).message
    assert "for 2 windows" in judge(measures(30), [measures(30)], rule=DeadNeurons(confirmed=2)).message


def test_pools_windows_until_the_rows_suffice() -> None:
    one = measures(30, rows=400)
    assert judge(one, [one]) is None
    verdict = judge(one, [one] * 2)
    assert verdict.severity == Severity.SERIOUS
    assert "1,200 rows" in verdict.message


def test_pools_as_many_windows_as_it_takes() -> None:
    one = measures(30, rows=8)
    assert judge(one, [one] * 120) is None
    assert judge(one, [one] * 124).severity == Severity.SERIOUS


def test_pools_the_share_of_an_epoch() -> None:
    one = measures(30, rows=100)
    assert judge(one, [one], epochs=0.5) is not None
    assert judge(one, [one], epochs=0.4) is None


def test_one_that_fired_in_a_pooled_window_is_alive() -> None:
    verdict = judge(measures(30, rows=600), [measures(25, rows=600)])
    assert verdict.neurons == tuple(range(25))


def test_one_that_fires_again_is_alive_whatever_it_was() -> None:
    assert judge(measures(0), [measures(80)] * 3) is None


def test_old_windows_do_not_count_where_the_present_one_suffices() -> None:
    verdict = judge(measures(30), [measures(0)] * 3)
    assert len(verdict.neurons) == 30


def test_serious_takes_an_epoch_or_a_second_window() -> None:
    assert judge(measures(60), trained=0.5).severity == Severity.WARNING
    assert judge(measures(60), trained=1.0).severity == Severity.CRITICAL
    assert judge(measures(60), [measures(60)], trained=0.5).severity == Severity.CRITICAL


def test_two_neurons_of_a_small_layer_are_chance() -> None:
    small = by_hand.layer(4)
    assert judge(measures(2, 4), layer=small).severity == Severity.WARNING
    assert judge(measures(3, 4), layer=small).severity == Severity.CRITICAL
    pair = by_hand.layer(2)
    assert judge(measures(2, 2), layer=pair).severity == Severity.CRITICAL  # all of it


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


LEARNING = by_hand.learning()


def test_learning_excuses_those_that_died_by_one_band() -> None:
    assert judge(measures(50), born=0).severity == Severity.CRITICAL
    assert judge(measures(50), born=0, progress=LEARNING).severity == Severity.SERIOUS
    assert judge(measures(20), born=0, progress=LEARNING).severity == Severity.WARNING
    assert judge(measures(5), born=0, progress=LEARNING) is None


def test_learning_excuses_those_that_the_draw_of_their_weights_turned_off() -> None:
    assert judge(measures(60), born=60, evidence=bias(-0.3), progress=LEARNING).severity == Severity.WARNING
    assert judge(measures(60), born=60, evidence=bias(-0.3)).severity == Severity.CRITICAL


def test_those_of_the_draw_count_one_band_less_while_it_learns_or_may_yet() -> None:
    """A tenth of each deep layer is off at He's initialisation."""
    for facts in ({"progress": LEARNING}, {"seen": 100}):
        assert judge(measures(19), born=19, evidence=bias(-0.3), **facts) is None
        assert judge(measures(20), born=20, evidence=bias(-0.3), **facts).severity == Severity.WARNING
        assert judge(measures(19), born=19, evidence=bias(-20.0), **facts).severity == Severity.WARNING
    assert judge(measures(19), born=19, evidence=bias(-0.3)).severity == Severity.WARNING


@pytest.mark.parametrize(
    "evidence", [bias(-20.0), {**bias(0.0), **reach(-0.1)}, {}], ids=["bias", "weights", "unknown"]
)
def test_learning_does_not_excuse_those_that_something_holds_off(evidence: dict[str, Tensor]) -> None:
    assert judge(measures(60), born=60, evidence=evidence, progress=LEARNING).severity == Severity.CRITICAL


def test_a_network_has_time_to_show_that_it_learns() -> None:
    early = {"seen": 199, "evidence": bias(-0.3)}
    assert judge(measures(60), born=60, **early).severity == Severity.WARNING
    assert judge(measures(40), born=0, **early).severity == Severity.WARNING
    assert judge(measures(60), born=0, **early).severity == Severity.CRITICAL  # half of a layer does not just die
    assert judge(measures(40), born=40, seen=199, evidence=bias(-20.0)).severity == Severity.SERIOUS


def test_a_pre_activation_far_below_all_others_is_no_draw() -> None:
    """Weights of one sign on inputs that are never negative."""
    mean = torch.linspace(-1, 1, 100, dtype=torch.float64).view(2, 50).T.flatten()  # half of both kinds
    facts = {"born": 60, "progress": LEARNING}
    drawn = {**bias(0.0), "preactivation_mean": mean, "preactivation_std": torch.ones(100)}
    assert judge(measures(60), evidence=drawn, **facts).severity == Severity.WARNING
    drawn["preactivation_mean"] = torch.where(torch.arange(100) < 60, -20.0, mean)
    assert judge(measures(60), evidence=drawn, **facts).severity == Severity.CRITICAL


def test_behind_a_norm_no_draw_of_weights_turns_a_neuron_off() -> None:
    layer = by_hand.layer(normalized=True)
    verdict = judge(measures(60), layer=layer, born=60, evidence=bias(-0.3), progress=LEARNING)
    assert verdict.severity == Severity.CRITICAL


def test_learning_excuses_no_layer_that_is_dead_as_a_whole() -> None:
    assert judge(measures(100), born=100, evidence=bias(-0.3), progress=LEARNING).severity == Severity.CRITICAL


def test_those_of_a_network_that_was_trained_before_count_one_band_less() -> None:
    layer = by_hand.layer(fan_in=50)
    drawn, trained = torch.ones(100), torch.linspace(0.2, 3.0, 100)
    assert judge(measures(30), layer=layer, born=30, evidence=bias(-0.3), norms=drawn).severity == Severity.SERIOUS
    assert judge(measures(30), layer=layer, born=30, evidence=bias(-0.3), norms=trained).severity == Severity.WARNING
    verdict = judge(measures(60), layer=layer, born=60, evidence=bias(-0.3), norms=trained)
    assert verdict.severity == Severity.SERIOUS
    assert "began with trained weights" in verdict.cause
    assert judge(measures(60), layer=layer, born=60, evidence=bias(-20.0), norms=trained).severity == Severity.CRITICAL
    assert judge(measures(100), layer=layer, evidence=bias(-0.3), norms=trained).severity == Severity.CRITICAL


def test_few_inputs_are_outweighed_by_chance() -> None:
    for inputs, severity in ((2, Severity.WARNING), (20, Severity.CRITICAL)):
        layer = by_hand.layer(fan_in=inputs)
        for evidence in (bias(-1.2), {**bias(-0.5), **reach(-0.1)}):
            assert judge(measures(60), layer=layer, born=60, evidence=evidence, progress=LEARNING).severity == severity


@pytest.mark.parametrize(("dead", "severity"), [(40, Severity.WARNING), (50, Severity.CRITICAL)])
def test_the_losses_of_adversaries_accuse_nobody(dead: int, severity: Severity) -> None:
    playing = by_hand.losses(*[2.0] * 40, adversarial=True)
    assert judge(measures(dead), born=0, progress=playing).severity == severity
    assert judge(measures(40), born=40, evidence=bias(-20.0), progress=playing).severity == Severity.SERIOUS


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
