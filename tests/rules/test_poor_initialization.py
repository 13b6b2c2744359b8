"""Poor initialisation: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.poor_initialization import PoorInitialization
from tests import networks
from tests.rules import by_hand, sick_structure

ALIKE = [sick_structure.constant_weights, sick_structure.constant_kernels]
SMALL = [sick_structure.too_small, sick_structure.too_small_kernels, sick_structure.one_small_layer]
SERIOUS, WARNING = Severity.SERIOUS, Severity.WARNING


def by_name(network: Any) -> str:
    return network.__name__


@pytest.mark.parametrize("network", ALIKE, ids=by_name)
def test_finds_neurons_that_never_part(network: Any) -> None:
    trained = network()
    for report in trained.reports:
        found = [f for f in report.findings if f.condition == "poor_initialization" and f.layer == trained.layer]
        assert [f.severity for f in found] == [SERIOUS]
        assert "100%" in found[0].message


def test_finds_zeros_that_no_gradient_reaches() -> None:
    trained = sick_structure.all_zero()
    assert {f.layer for f in trained.found("poor_initialization")} == {"0", "2"}


@pytest.mark.parametrize("network", SMALL, ids=by_name)
def test_finds_weights_that_are_too_small(network: Any) -> None:
    trained = network()
    early = [f for f in trained.reports[0].findings if f.condition == "poor_initialization"]
    assert [f.severity for f in early] == [WARNING]  # it might still come to learn
    (finding,) = trained.found("poor_initialization")
    assert finding.severity == SERIOUS
    assert "the loss has not fallen" in finding.message
    assert "He (nn.init.kaiming_normal_)" in finding.remedy


def test_names_the_one_layer_that_is_off() -> None:
    (finding,) = sick_structure.one_small_layer().found("poor_initialization")
    assert finding.layer == "4"
    assert finding.remedy.startswith("initialise 4 with")


def test_finds_gradients_that_explode_through_large_weights() -> None:
    (finding,) = sick_structure.too_large().found("poor_initialization")
    assert finding.severity == SERIOUS
    assert "gradients" in finding.message
    assert "Xavier" in finding.remedy


@pytest.mark.parametrize("network", [*sick_structure.TEMPTING, *networks.HEALTHY], ids=by_name)
def test_silent_where_a_network_learns(network: Any) -> None:
    assert network().alarms("poor_initialization") == []


@pytest.mark.parametrize(
    "network",
    [sick_structure.symmetry_that_breaks, sick_structure.zero_branches, sick_structure.deep_and_learned],
    ids=by_name,
)
def test_says_nothing_at_all_of_what_heals_or_was_learned(network: Any) -> None:
    assert all(f.condition != "poor_initialization" for report in network().reports for f in report.findings)


# The rule alone

FLAT = by_hand.losses(*[2.0] * 120)


def values(layers: dict[str, Layer], value: Any) -> dict[str, Tensor]:
    """One number a layer, the same for all or one for each."""
    each = value if isinstance(value, list) else [value] * len(layers)
    return {name: torch.as_tensor(v, dtype=torch.float64) for name, v in zip(layers, each, strict=True)}


def measured(layers: dict[str, Layer], scales: Any = 1.0, init: Any = 1.0, alike: int = 0, zero: int = 0) -> Any:
    """Layers of 100 neurons of which the first ones are copies, or have weights of 0 and no gradient."""
    index, names = torch.arange(100), list(layers)
    distances = torch.where(index < alike, 0.0, 1.0).double()
    spread = torch.where(index < alike, 1.0, 1.0 + 0.01 * index).double()
    dead = (index < zero).double()
    return {
        "activation_scale": values(layers, scales),
        "activation_mean": dict.fromkeys(names, spread),
        "activation_std": dict.fromkeys(names, spread),
        "twin_distance": dict.fromkeys(names, distances),
        "dead_weight_rate": dict.fromkeys(names, dead),
        "init_scale": values(layers, init),
        "gradient_norm": {f"{name}.weight": torch.tensor(0.0 if zero else 1.0) for name in names},
        "gradient_rms": {f"{name}.weight": torch.tensor(1.0) for name in names},
    }


def judge(
    layers: dict[str, Layer],
    start: Any,
    now: Any = None,
    parameters: Parameters | None = None,
    **facts: Any,
) -> list[Verdict]:
    for layer in layers.values():
        layer.fan_in = layer.fan_in or 64
    window = by_hand.window(**{"seen": 120, "progress": FLAT, **facts})
    known = parameters or by_hand.parameters(*layers)
    rule = PoorInitialization()
    return list(rule.judge(window=window, layers=layers, parameters=known, initial=start, **(now or start)))


def chain(number: int, act: nn.Module | None = None) -> dict[str, Layer]:
    return by_hand.chain(number, act)


def falling(step: float, number: int, output: float | None = None) -> list[float]:
    scales = [step**i for i in range(number)]
    return scales if output is None else [*scales[:-1], output]


@pytest.mark.parametrize(("share", "speaks"), [(0, False), (49, False), (50, True), (100, True)])
def test_copies_from_half_of_a_layer_on(share: int, speaks: bool) -> None:
    layers = chain(2)
    found = judge(layers, measured(layers, alike=share))
    assert [(v.layer, v.severity, v.certain) for v in found] == ([("fc1", SERIOUS, True)] if speaks else [])


def test_copies_that_parted_were_no_fault() -> None:
    layers = chain(2)
    assert judge(layers, measured(layers, alike=100), measured(layers)) == []


def test_copies_that_came_later_are_no_start() -> None:
    layers = chain(2)
    assert judge(layers, measured(layers), measured(layers, alike=100)) == []


@pytest.mark.parametrize(
    "facts", [{"fan_in": 7}, {"output": True}, {"neurons": 100, "frozen": True}], ids=["few inputs", "output", "frozen"]
)
def test_copies_that_are_none_of_its_business(facts: dict[str, Any]) -> None:
    layers = chain(2)
    frozen = ("fc1",) if facts.pop("frozen", False) else ()
    for fact, value in facts.items():
        setattr(layers["fc1"], fact, value)
    known = by_hand.parameters(*layers, frozen=frozen)
    assert judge(layers, measured(layers, alike=100), parameters=known) == []


def test_zeros_with_a_gradient_will_move() -> None:
    layers = chain(2)
    stuck = measured(layers, zero=100)
    assert [v.layer for v in judge(layers, stuck)] == ["fc1"]
    assert judge(layers, stuck, {**stuck, "gradient_norm": measured(layers)["gradient_norm"]}) == []


@pytest.mark.parametrize(("step", "speaks"), [(0.33, False), (0.31, True), (3.1, False), (3.3, True)])
def test_a_hundredfold_along_four_steps(step: float, speaks: bool) -> None:
    layers = chain(6)
    found = judge(layers, measured(layers, falling(step, 6), init=step))
    assert [v.severity for v in found] == ([SERIOUS] if speaks else [])
    if speaks:
        assert found[0].value == pytest.approx(step**4)


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ({"seen": 99}, WARNING),
        ({"seen": 100}, SERIOUS),
        ({"seen": 40, "last": True}, SERIOUS),
        ({"progress": by_hand.losses(*[2.0] * 60, *[1.8] * 60)}, WARNING),
        ({"progress": by_hand.losses(*[2.0] * 120, adversarial=True)}, WARNING),
        ({"progress": by_hand.losses(2.0, 2.0)}, WARNING),
    ],
    ids=["early", "late", "at the end", "learning", "adversarial", "unknown"],
)
def test_serious_only_where_nothing_is_learned(facts: dict[str, Any], severity: Severity) -> None:
    layers = chain(6)
    (verdict,) = judge(layers, measured(layers, falling(0.2, 6), init=0.2), **facts)
    assert verdict.severity == severity


def test_only_what_the_weights_explain_counts() -> None:
    layers = chain(5)
    assert judge(layers, measured(layers, falling(0.1, 5), init=1.0)) == []  # the inputs, not the weights
    assert judge(layers, measured(layers, falling(10.0, 5), init=1.0)) == []  # learned, not initialised


def test_one_layer_may_be_all_of_it() -> None:
    layers = chain(5)
    scales, spreads = [1.0, 1.0, 1e-3, 1e-3, 1e-3], [1.0, 1.0, 1e-3, 1.0, 1.0]
    (verdict,) = judge(layers, measured(layers, scales, spreads))
    assert verdict.layer == "fc3"


def test_a_fall_that_the_output_or_a_layer_makes_good_harms_nothing() -> None:
    layers = chain(6)
    assert judge(layers, measured(layers, falling(0.1, 6, output=1.0), init=0.1)) == []
    assert judge(layers, measured(layers, [1, 0.1, 0.01, 1e-3, 1.0, 1.0], init=0.1)) == []


def test_scales_that_training_has_repaired_were_no_fault() -> None:
    layers = chain(6)
    assert judge(layers, measured(layers, falling(0.1, 6), init=0.1), measured(layers)) == []


def test_towers_are_not_held_against_each_other() -> None:
    layers = chain(6)
    for layer in layers.values():
        layer.sources = frozenset()
    assert judge(layers, measured(layers, falling(0.01, 6), init=0.01)) == []


@pytest.mark.parametrize(
    ("act", "init", "speaks"),
    [(nn.Tanh(), 2.5, True), (nn.Tanh(), 1.5, False), (nn.Tanh(), 0.2, True), (nn.ReLU(), 2.5, False)],
    ids=["large", "ordinary", "small", "relu"],
)
def test_gradients_of_bounded_activations(act: nn.Module, init: float, speaks: bool) -> None:
    layers = chain(6, act)
    start = measured(layers, init=init)
    start["gradient_rms"] = {f"fc{i + 1}.weight": torch.tensor(0.3**i) for i in range(6)}
    found = judge(layers, start)
    assert len(found) == speaks
    if speaks:
        assert "gradients" in found[0].message
        single = {**start, "gradient_rms": {f"fc{i + 1}.weight": torch.tensor(1e-4 if i else 1.0) for i in range(6)}}
        assert judge(layers, single) == []
        for layer in layers.values():
            layer.normalized = True
        assert judge(layers, start) == []
