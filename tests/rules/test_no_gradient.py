"""Parameters that cannot learn: in networks, and at the edges of the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.life import Life
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.no_gradient import NoGradient
from tests import networks
from tests.rules import by_hand
from tests.rules.trained import train

SICK = [
    (networks.cut_by_detach, "no gradient has reached"),
    (networks.cut_by_no_grad, "no gradient has reached"),
    (networks.generator_cut_off, "no gradient has reached"),
    (networks.in_no_optimizer, "is in no optimizer"),
    (networks.rate_of_zero, "has not moved"),
    (networks.all_stand_still, "has not moved"),
    (networks.never_called, "no gradient has reached"),
]


@pytest.mark.parametrize(("network", "words"), SICK, ids=lambda value: getattr(value, "__name__", None))
def test_finds_them(network: Any, words: str) -> None:
    trained = network()
    (finding,) = [f for f in trained.found("no_gradient") if f.layer == trained.layer]
    assert finding.severity == trained.severity
    assert words in finding.message
    assert "weight, bias" in finding.message


def test_names_no_other_layer() -> None:
    for network in (networks.cut_by_detach, networks.in_no_optimizer, networks.rate_of_zero, networks.never_called):
        assert {f.layer for f in network().found("no_gradient")} == {network().layer}


def test_what_was_never_called_is_told_from_what_is_cut_off() -> None:
    (finding,) = networks.never_called().found("no_gradient")
    assert "never called" in finding.cause
    (finding,) = networks.cut_by_detach().found("no_gradient")
    assert "detach()" in finding.remedy


@pytest.mark.parametrize("network", networks.HEALTHY, ids=lambda network: network.__name__)
def test_silent_where_all_learn(network: Any) -> None:
    assert network().alarms("no_gradient") == []


# The rule alone

MOVING = {"fc1.weight": 1.0, "fc1.bias": 1.0, "fc2.weight": 1.0, "fc2.bias": 1.0}


def numbers(**changes: float) -> Any:
    return by_hand.numbers(**{**MOVING, **{name.replace("_", "."): value for name, value in changes.items()}})


def judge(
    gradient: Any,
    change: Any = None,
    past: Any = (),
    optimized: Any = None,
    silent: Any = None,
    lives: Any = None,
    decayed: Any = (),
    uncalled: Any = (),
    dtype: torch.dtype = torch.float32,
    **facts: Any,
) -> list[Verdict]:
    parameters = by_hand.parameters("fc1", "fc2", optimized=optimized)
    parameters.model.to(dtype)
    parameters.decayed = set(decayed)
    change = gradient if change is None else change  # nothing moves without a gradient
    return list(
        NoGradient().judge(
            window=by_hand.window(**facts),
            past=list(past),
            parameters=parameters,
            silent=silent or {},
            lives=lives or {},
            layers={name: by_hand.layer(name=name) for name in lives or {} if name not in uncalled},
            gradient_norm=gradient,
            parameter_change=change,
        )
    )


CUT = {"fc1_weight": 0.0, "fc1_bias": 0.0}


def test_all_well() -> None:
    assert judge(numbers()) == []


def test_cut_off() -> None:
    (verdict,) = judge(numbers(**CUT))
    assert (verdict.layer, verdict.severity) == ("fc1", Severity.SERIOUS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_float16_it_may_be_rounded_away(dtype: torch.dtype) -> None:
    (verdict,) = judge(numbers(**CUT), dtype=dtype)
    assert ("GradScaler" in verdict.remedy) == (dtype == torch.float16)


def test_critical_where_nothing_learns() -> None:
    verdicts = judge(by_hand.numbers(**dict.fromkeys(MOVING, 0.0)))
    assert [(v.layer, v.severity) for v in verdicts] == [("fc1", Severity.CRITICAL), ("fc2", Severity.CRITICAL)]


def test_one_part_that_is_cut_off_is_not_excused_by_a_loss_that_falls() -> None:
    assert [v.layer for v in judge(numbers(**CUT), progress=by_hand.learning())] == ["fc1"]


def test_in_no_optimizer() -> None:
    (verdict,) = judge(numbers(), optimized={"fc2.weight", "fc2.bias"})
    assert verdict.layer == "fc1"
    assert "is in no optimizer" in verdict.message


def test_a_target_network_is_meant_so() -> None:
    assert judge(numbers(**CUT), numbers(**CUT), optimized={"fc2.weight", "fc2.bias"}) == []


def test_never_moved() -> None:
    (verdict,) = judge(numbers(), numbers(**CUT), learning_rate=0.1)
    assert verdict.layer == "fc1"
    assert "0.1" in verdict.cause


def test_a_bias_alone_may_have_no_gradient() -> None:
    assert judge(numbers(fc1_bias=0.0)) == []
    (verdict,) = judge(numbers(fc1_weight=0.0))
    assert verdict.message == "no gradient has reached fc1.weight"


def test_a_module_that_was_never_called_is_only_a_warning() -> None:
    (verdict,) = judge(numbers(**CUT), silent={"fc1": "never called"})
    assert verdict.severity == Severity.WARNING


@pytest.mark.parametrize(("called", "severity"), [((), Severity.WARNING), (("block.fc",), Severity.SERIOUS)])
def test_a_norm_in_a_block_that_was_never_called_is_only_a_warning(called: tuple[str, ...], severity: Severity) -> None:
    block = nn.ModuleDict({"norm": nn.LayerNorm(2), "fc": nn.Linear(2, 2), "spare": nn.Linear(2, 2)})
    (verdict,) = NoGradient().judge(
        window=by_hand.window(),
        past=[],
        parameters=Parameters(nn.ModuleDict({"block": block})),
        silent=dict.fromkeys({"block.fc", "block.spare"} - set(called), "never called"),
        lives={},
        layers={name: by_hand.layer(name=name) for name in called},
        gradient_norm={"block.norm.weight": torch.tensor(0.0), "block.fc.weight": torch.tensor(1.0)},
    )
    assert (verdict.layer, verdict.severity) == ("block.norm", severity)


class WithSpareNorm(nn.Module):
    """A block that works, with a norm that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.head = nn.Linear(64, 16), nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x).relu())


def test_a_norm_that_nobody_calls_in_a_block_that_works_is_only_a_warning() -> None:
    found = [f for f in train(WithSpareNorm(), steps=60)[-1].findings if f.condition == "no_gradient"]
    assert [(f.layer, f.severity) for f in found] == [("norm", Severity.WARNING)]
    assert "never called" in found[0].cause


@pytest.mark.parametrize(
    "facts", [{"steps": 19}, {"measured": 1}, {"trained": 0.99}], ids=["19 steps", "one measured", "no epoch yet"]
)
def test_too_early_to_tell(facts: dict[str, Any]) -> None:
    assert judge(numbers(**CUT), **facts) == []


def test_pools_windows_until_the_steps_suffice() -> None:
    still = {"gradient_norm": numbers(**CUT), "parameter_change": numbers(**CUT)}
    moved = {"gradient_norm": numbers(), "parameter_change": numbers()}
    assert len(judge(numbers(**CUT), past=[by_hand.past(still, steps=10)], steps=10)) == 1
    assert judge(numbers(**CUT), past=[by_hand.past(moved, steps=10)], steps=10) == []
    assert len(judge(numbers(**CUT), past=[by_hand.past(moved)])) == 1  # only recent windows count


def test_pools_a_whole_epoch() -> None:
    """Where an epoch has 100 steps, 20 of them do not show that a rare branch never learns."""
    still = {"gradient_norm": numbers(**CUT), "parameter_change": numbers(**CUT)}
    moved = {"gradient_norm": numbers(), "parameter_change": numbers()}

    def at(i: int) -> dict[str, Any]:
        return {"index": i, "seen": 20 * (i + 1), "trained": 0.2 * (i + 1), "epochs": 0.2}

    windows = [by_hand.past(still if i else moved, **at(i)) for i in range(8)]
    assert judge(numbers(**CUT), past=windows[:4], **at(4)) == judge(numbers(**CUT), past=windows[:3], **at(3)) == []
    assert len(judge(numbers(**CUT), past=windows, **at(8))) == 1


def test_frozen_parameters_are_meant_so() -> None:
    frozen = by_hand.parameters("fc1", "fc2", frozen=("fc1",))
    verdicts = NoGradient().judge(
        window=by_hand.window(),
        past=[],
        parameters=frozen,
        silent={},
        lives={},
        layers={},
        gradient_norm=numbers(**CUT),
    )
    assert list(verdicts) == []


def test_what_has_moved_had_a_gradient_on_another_step() -> None:
    assert judge(numbers(**CUT), numbers()) == []
    assert judge(numbers(**CUT), numbers(), decayed=["fc2.weight"]) == []
    (verdict,) = judge(numbers(**CUT), numbers(), decayed=["fc1.weight", "fc1.bias"])  # decay alone moves it
    assert verdict.layer == "fc1"


def test_names_the_dead_layer_behind() -> None:
    dead = Life.of(torch.ones(3, dtype=torch.bool))
    dead.observe(torch.ones(3, dtype=torch.bool), 100.0, by_hand.window())
    (verdict,) = judge(numbers(**CUT), lives={"fc2": dead})
    assert "no neuron of fc2 has any slope" in verdict.cause
    assert verdict.remedy == "cure fc2 first"
    alive = Life.of(torch.ones(3, dtype=torch.bool))
    alive.observe(torch.tensor([True, True, False]), 100.0, by_hand.window())
    assert "detach()" in judge(numbers(**CUT), lives={"fc2": alive})[0].remedy


def test_what_a_vanishing_gradient_does_not_move_is_one_warning() -> None:
    layers = by_hand.chain(4)
    norms = by_hand.numbers(**{f"fc{i + 1}.weight": norm for i, norm in enumerate([0.0, 0.0, 1e-9, 1.0])})
    still = by_hand.numbers(**{f"fc{i + 1}.weight": change for i, change in enumerate([0.0, 0.0, 0.0, 0.1])})
    facts = {"window": by_hand.window(), "past": [], "silent": {}, "lives": {}, "layers": layers}
    parameters = by_hand.parameters(*layers)

    def verdicts() -> list[Verdict]:
        return list(NoGradient().judge(**facts, parameters=parameters, gradient_norm=norms, parameter_change=still))

    assert [(v.layer, v.severity) for v in verdicts()] == [("fc1", Severity.WARNING), ("fc3", Severity.WARNING)]
    norms["fc3.weight"] = torch.tensor(0.1)  # then fc1 and fc2 are cut off, and the rate of fc3 is 0
    assert [(v.layer, v.severity) for v in verdicts()] == [(f"fc{i}", Severity.SERIOUS) for i in (1, 2, 3)]


def test_what_nothing_is_routed_to_is_a_warning() -> None:
    expert = Life.of(torch.zeros(3, dtype=torch.bool))
    (verdict,) = judge(numbers(**CUT), lives={"fc1": expert}, uncalled=["fc1"])
    assert verdict.severity == Severity.WARNING
    assert "not called on any of these steps" in verdict.cause
    assert judge(numbers(**CUT), lives={"fc1": expert})[0].severity == Severity.SERIOUS


def test_a_loss_of_zero_has_no_gradient() -> None:
    nothing = by_hand.numbers(**dict.fromkeys(MOVING, 0.0))
    assert judge(nothing, progress=by_hand.losses(*[1.0] * 20, *[0.0] * 20)) == []
    assert judge(nothing, progress=by_hand.losses(*[1.0] * 20, *[0.1, 0.0] * 10)) == []  # on the measured steps
    assert len(judge(nothing, progress=by_hand.losses(*[1.0] * 20, *[0.1] * 20))) == 2
