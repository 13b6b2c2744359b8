"""From verdicts of single windows to findings that last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Finding, Monitor, Severity
from lightning_neurohealth.diagnosis import MEMORY, Diagnosis
from lightning_neurohealth.measuring import Numbers
from lightning_neurohealth.rules import LayerRule, Rule, RunRule, Verdict, all_rules
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from lightning_neurohealth.rules.dormant_neurons import DormantNeurons
from lightning_neurohealth.rules.non_finite import NonFinite
from lightning_neurohealth.window import Past
from tests.rules import by_hand


def verdict(level: float, **facts: Any) -> Verdict | None:
    """Severity by number; nothing for 0."""
    if not level:
        return None
    return Verdict(Severity(int(level)), level, 1.0, message="message", cause="cause", remedy="remedy", **facts)


@dataclass(frozen=True, kw_only=True)
class Complains(LayerRule):
    """Says what severity ``on_rate`` holds."""

    def judge(self, on_rate: Tensor) -> Verdict | None:
        return verdict(float(on_rate))


@dataclass(frozen=True, kw_only=True)
class Remembers(LayerRule):
    """Speaks of what was there before anything happened."""

    def judge(self, on_rate: Tensor) -> Verdict | None:
        return verdict(float(on_rate), immediate=True, certain=True)


@dataclass(frozen=True, kw_only=True)
class Insists(Complains):
    """Is not excused by a loss that falls."""

    statistical = False


@dataclass(frozen=True, kw_only=True)
class Interrupts(LayerRule):
    """What it sees cannot heal."""

    def judge(self, on_rate: Tensor) -> Verdict | None:
        return verdict(float(on_rate), immediate=True)


@dataclass(frozen=True, kw_only=True)
class IsCertain(LayerRule):
    """A falling loss is no excuse."""

    def judge(self, on_rate: Tensor) -> Verdict | None:
        return verdict(float(on_rate), certain=True)


@dataclass(frozen=True, kw_only=True)
class Points(RunRule):
    """Names the layer whose ``on_rate`` is largest."""

    def judge(self, on_rate: dict[str, Tensor]) -> Iterable[Verdict]:
        worst = max(on_rate, key=lambda name: float(on_rate[name]))
        found = verdict(float(on_rate[worst]), layer=worst)
        return [found] if found else []


@dataclass(frozen=True, kw_only=True)
class Breaks(LayerRule):
    """Always fails."""

    def judge(self, on_rate: Tensor) -> Verdict | None:
        raise RuntimeError("no idea")


class Run:
    """A run of windows in which layers have the given ``on_rate``, that is, severity."""

    def __init__(self, *rules: Rule) -> None:
        self.diagnosis = Diagnosis(list(rules), {})
        self.windows = 0
        self.frozen: tuple[str, ...] = ()

    def window(self, fc1: float = 0.0, fc2: float = 0.0, **facts: Any) -> tuple[list[Finding], list[Finding]]:
        rates = {name: {"on_rate": torch.tensor(level)} for name, level in {"fc1": fc1, "fc2": fc2}.items()}
        return self.close(Numbers(layers=rates), **facts)

    def close(self, numbers: Numbers, **facts: Any) -> tuple[list[Finding], list[Finding]]:
        self.windows += 1
        step = 20 * self.windows
        window = by_hand.window(**{"index": self.windows - 1, "seen": step, "step": step, **facts})
        layers = {name: by_hand.layer(2, name=name) for name in numbers.layers}
        parameters = by_hand.parameters("fc1", "fc2", frozen=self.frozen)
        return self.diagnosis.judge(window, numbers, Numbers(), layers, parameters, {})

    def severities(self, *levels: float, **facts: Any) -> list[int]:
        """What is found on fc1 in each window."""
        found = [self.window(level, **facts)[0] for level in levels]
        return [max((int(f.severity) for f in findings), default=0) for findings in found]


# How long


def test_a_condition_must_show_in_two_windows_in_a_row() -> None:
    assert Run(Complains()).severities(2, 2, 2) == [0, 2, 2]
    assert Run(Complains()).severities(2, 0, 2, 0, 2, 2) == [0, 0, 0, 0, 0, 2]


def test_or_in_as_many_as_the_rule_says() -> None:
    assert Run(Complains(windows=1)).severities(2, 0, 2) == [2, 0, 2]
    assert Run(Complains(windows=4)).severities(2, 2, 2, 2) == [0, 0, 0, 2]


def test_what_cannot_heal_counts_at_once() -> None:
    assert Run(Interrupts()).severities(3) == [3]


def test_a_run_of_one_window_can_warn() -> None:
    (found,) = Run(Complains()).window(3, last=True)[0]
    assert found.severity == Severity.WARNING
    assert "one window" in found.message
    assert Run(Complains()).severities(0, 3, last=True) == [0, 0]  # but not one of several


def test_layers_are_counted_apart() -> None:
    run = Run(Complains())
    run.window(fc1=2)
    assert run.window(fc2=2)[0] == []
    (found,) = run.window(fc2=2)[0]
    assert found.layer == "fc2"


def test_a_rule_on_the_run_may_name_another_layer_each_time() -> None:
    run = Run(Points())
    run.window(fc1=2, fc2=1)
    (found,) = run.window(fc1=1, fc2=2)[0]
    assert (found.layer, found.severity) == ("fc2", Severity.SERIOUS)


def test_the_first_ten_steps_are_not_judged() -> None:
    assert Run(Complains(windows=1)).severities(2, seen=9) == [0]
    assert Run(Complains(windows=1)).severities(2, seen=10) == [2]
    assert Run(Complains(windows=1, grace=0)).severities(2, seen=1) == [2]


def test_windows_of_the_grace_count_for_nothing() -> None:
    run = Run(Complains())
    run.window(2, seen=5)
    assert run.window(2, seen=15)[0] == []
    assert len(run.window(2, seen=25)[0]) == 1


def test_as_bad_as_in_the_least_bad_of_these_windows() -> None:
    assert Run(Complains()).severities(1, 3, 3) == [0, 1, 3]
    assert Run(Complains()).severities(3, 3, 2) == [0, 3, 2]
    assert Run(Complains(windows=3)).severities(3, 1, 3, 3, 3) == [0, 0, 1, 1, 3]
    assert Run(Interrupts()).severities(1, 3) == [1, 3]


# Since when, and until when


def test_since_is_the_first_window_that_showed_it() -> None:
    run = Run(Complains())
    run.window(0)
    run.window(2, epoch=1)
    for _ in range(3):
        (found,) = run.window(2, epoch=2)[0]
        assert found.since == (1, 40)


def test_says_the_learning_rate_at_which_it_began() -> None:
    """Also once the window in which it did is forgotten, and nothing where it was not known."""
    run = Run(Complains(), Interrupts())
    run.window(0)
    run.window(2, learning_rate=0.5)
    for _ in range(MEMORY + 10):
        (found, *_), _ = run.window(2, learning_rate=0.001)
    assert (found.since, found.learning_rate) == ((0, 40), 0.5)
    assert found.beginning == "since epoch 0, step 40 (learning rate 0.5)"
    unknown = Run(Interrupts()).window(3)[0][0]
    assert unknown.learning_rate is None
    assert unknown.beginning == "since epoch 0, step 20"


def test_since_begins_anew_after_a_recovery() -> None:
    run = Run(Complains(windows=1))
    run.window(2)
    run.window(0)
    assert run.window(2)[0][0].since == (0, 60)


def test_what_is_gone_has_recovered_once() -> None:
    run = Run(Complains(windows=1))
    (found,) = run.window(2)[0]
    assert run.window(2)[1] == []
    findings, recovered = run.window(0)
    assert findings == []
    assert [(f.condition, f.layer, f.since) for f in recovered] == [("complains", "fc1", found.since)]
    assert run.window(0)[1] == []


def test_a_change_of_severity_is_no_recovery() -> None:
    run = Run(Complains(windows=1))
    run.window(3)
    findings, recovered = run.window(1)
    assert [f.severity for f in findings] == [Severity.WARNING]
    assert recovered == []


# Learning


def test_learning_makes_statistical_conditions_warnings() -> None:
    run = Run(Complains())
    run.window(3, progress=by_hand.learning())
    (found,) = run.window(3, progress=by_hand.learning())[0]
    assert found.severity == Severity.WARNING
    assert "learns well" in found.message
    assert run.window(3)[0][0].severity == Severity.CRITICAL  # no longer


@pytest.mark.parametrize("rule", [Insists(), Interrupts(), IsCertain()], ids=lambda rule: rule.name)
def test_learning_does_not_excuse_all(rule: Rule) -> None:
    assert Run(rule).severities(3, 3, progress=by_hand.learning())[-1] == 3


def test_a_frozen_layer_is_at_most_a_warning() -> None:
    run = Run(Insists(windows=1))
    run.frozen = ("fc1",)
    found, _ = run.window(fc1=3, fc2=3)
    assert [(f.layer, f.severity) for f in found] == [("fc2", Severity.CRITICAL), ("fc1", Severity.WARNING)]
    assert "frozen" in found[1].message


def test_learning_lifts_no_warning() -> None:
    assert Run(Complains()).severities(1, 1, progress=by_hand.learning()) == [0, 1]


def test_what_kills_is_not_a_matter_of_statistics() -> None:
    certain = {"dead_neurons", "no_gradient", "non_finite"}
    judged = {"dormant_neurons", "saturation", "vanishing_activations", "exploding_activations"}
    judged |= {"vanishing_gradients", "exploding_gradients"}
    rules = all_rules()
    assert {name for name in certain | judged if rules[name].statistical} == judged


# What is said


def test_the_worst_comes_first_then_the_order_of_execution() -> None:
    run = Run(Insists(windows=1), Complains(windows=1))
    found, _ = run.window(fc1=1, fc2=3)
    assert [(f.severity, f.layer, f.condition) for f in found] == [
        (3, "fc2", "complains"),
        (3, "fc2", "insists"),
        (1, "fc1", "complains"),
        (1, "fc1", "insists"),
    ]


def test_a_finding_says_all_that_the_verdict_said() -> None:
    (found,) = Run(Complains(windows=1)).window(2)[0]
    assert (found.condition, found.layer, found.activation) == ("complains", "fc1", "act")
    assert (found.value, found.threshold) == (2.0, 1.0)
    assert (found.message, found.cause, found.remedy) == ("message", "cause", "remedy")


def nan_in(*layers: str, rate: float = 0.0) -> Numbers:
    """Numbers of a window in which these layers wrote NaN at step 30; ``rate`` is for a rule that complains."""
    facts = {
        name: {
            "on_rate": torch.tensor(rate),
            "nonfinite_step": torch.tensor(30.0 if name in layers else torch.inf),
            "nonfinite_rate": torch.full((2,), float(name in layers)),
        }
        for name in ("fc1", "fc2")
    }
    never = torch.tensor(torch.inf)
    run = {"nonfinite_loss_step": never, "nonfinite_gradient_step": never}
    weights = {"fc1.weight": {"parameter_nonfinite_rate": torch.tensor(0.0)}}
    return Numbers(layers=facts, parameters=weights, run=run)


def test_nan_hides_what_comes_in_its_wake() -> None:
    run = Run(NonFinite(), Complains(windows=1))
    run.close(nan_in())
    found, _ = run.close(nan_in("fc1", "fc2", rate=3))
    assert [(f.condition, f.layer) for f in found] == [("non_finite", "fc1")]


def test_nan_does_not_hide_what_was_known_before() -> None:
    run = Run(NonFinite(), Complains(windows=1))
    run.close(nan_in(rate=2))
    found, _ = run.close(nan_in("fc1", rate=2))
    assert {f.condition for f in found} == {"non_finite", "complains"}


def test_nan_does_not_hide_what_was_there_at_the_first_step() -> None:
    run = Run(NonFinite(), Remembers(windows=1))
    found, _ = run.close(nan_in("fc1", rate=2))
    assert {f.condition for f in found} == {"non_finite", "remembers"}


# Rules that cannot speak


def test_a_rule_that_fails_is_switched_off_with_one_warning() -> None:
    run = Run(Breaks(), Complains(windows=1))
    with pytest.warns(RuntimeWarning, match="breaks failed and is switched off.*no idea") as warned:
        found, _ = run.window(2)
    assert len(warned) == 1
    assert [f.condition for f in found] == ["complains"]
    assert "no idea" in run.diagnosis.not_judged["breaks"]
    run.window(2)  # warnings are errors here


def test_a_layer_that_was_not_called_in_one_window_does_no_harm() -> None:
    """Its gradients fade over windows, so that it has measures, but none of its activation."""
    facts = {"zero_rate": torch.ones(2), "activation_std": torch.zeros(2), "slope": torch.zeros(2)}
    called = {"on_rate": torch.zeros(2), "activation_rows": torch.tensor(500.0), **facts}
    run = Run(DeadNeurons())
    run.close(Numbers(layers={"fc1": {"gradient_flow": torch.ones(2)}}))
    run.close(Numbers(layers={"fc1": called}))
    found, _ = run.close(Numbers(layers={"fc1": called}))
    assert run.diagnosis.not_judged == {}
    assert [(f.layer, f.neurons) for f in found] == [("fc1", (0, 1))]


def one_step(**settings: Any) -> Any:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    monitor = Monitor(net, every_n_steps=1, **settings)
    with monitor:
        net(torch.ones(5, 3)).sum().backward()
    report = monitor.close()
    monitor.remove()
    return report


def test_without_their_measures_rules_are_not_judged() -> None:
    report = one_step(measures="economy")
    assert report.not_judged["dormant_neurons"] == "needs dormancy"
    least = {"dead_neurons", "saturation", "vanishing_gradients", "exploding_gradients", "non_finite"}
    assert not least & set(report.not_judged)


def test_a_rule_that_is_asked_for_brings_its_measures() -> None:
    report = one_step(measures="economy", rules=[DormantNeurons()])
    assert report.not_judged == {}
    assert report["0"]["dormancy"].shape == (4,)
    assert "dormancy" not in one_step(measures="economy")["0"]


# Memory


def test_rules_remember_the_first_window_and_the_recent_ones() -> None:
    seen: list[list[int]] = []

    @dataclass(frozen=True, kw_only=True)
    class Remembers(LayerRule):
        def judge(self, past: list[Past], on_rate: Tensor) -> Verdict | None:
            seen.append([entry.window.index for entry in past])
            return None

    run = Run(Remembers())
    for _ in range(300):
        run.window()
    assert seen[0] == seen[1] == []
    past = seen[-1]
    assert past[0] == 0
    assert past[-1] == 298
    assert past == sorted(past)
    assert len(past) <= 100
