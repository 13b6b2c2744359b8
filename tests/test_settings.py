"""Bad choices are refused where they are made, by a message that says what came and what is allowed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torch import nn

from lightning_neurohealth import Monitor, NeuronHealth
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.rules import all_rules
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from lightning_neurohealth.rules.saturation import Saturation
from lightning_neurohealth.settings import SETS, Settings

# setting, what came, kind of error, what is said
BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("every_n_steps", 0, ValueError, "every_n_steps=0: must be at least 1"),
    ("every_n_steps", -1, ValueError, "every_n_steps=-1: must be at least 1"),
    ("every_n_steps", 1.5, TypeError, "every_n_steps=1.5: must be a whole number of at least 1"),
    ("every_n_steps", True, TypeError, "every_n_steps=True: must be a whole number of at least 1"),
    ("every_n_steps", "10", TypeError, "every_n_steps='10': must be a whole number of at least 1"),
    ("every_n_steps", None, TypeError, "every_n_steps=None: must be a whole number of at least 1"),
    ("window", 0, ValueError, 'window=0: must be at least 1 or "epoch"'),
    ("window", -5, ValueError, 'window=-5: must be at least 1 or "epoch"'),
    ("window", "week", TypeError, "window='week': must be a whole number of at least 1 or \"epoch\""),
    ("window", 2.0, TypeError, 'window=2.0: must be a whole number of at least 1 or "epoch"'),
    ("window", False, TypeError, 'window=False: must be a whole number of at least 1 or "epoch"'),
    ("max_rows", 0, ValueError, 'max_rows=0: must be at least 1 or "auto", or None'),
    ("max_rows", "all", TypeError, "max_rows='all': must be a whole number of at least 1 or \"auto\", or None"),
    ("fused", "yes", ValueError, "fused='yes': must be one of True, False, 'auto'"),
    ("fused", None, ValueError, "fused=None: must be one of True, False, 'auto'"),
    ("saturation_cutoff", 0.5, ValueError, "saturation_cutoff=0.5: must lie between 0.5 and 1, e.g. 0.9"),
    ("saturation_cutoff", 1, ValueError, "saturation_cutoff=1: must lie between 0.5 and 1, e.g. 0.9"),
    ("saturation_cutoff", float("nan"), ValueError, "saturation_cutoff=nan: must lie between 0.5 and 1"),
    ("saturation_cutoff", "0.9", TypeError, "saturation_cutoff='0.9': must be a number between 0.5 and 1, e.g. 0.9"),
    ("saturation_cutoff", None, TypeError, "saturation_cutoff=None: must be a number between 0.5 and 1"),
    ("saturation_cutoff", True, TypeError, "saturation_cutoff=True: must be a number between 0.5 and 1"),
    ("include", "encoder", TypeError, "include='encoder': must be a list of glob patterns"),
    ("include", [1], TypeError, "include=[1]: must be a list of glob patterns"),
    ("exclude", "*", TypeError, "exclude='*': must be a list of glob patterns"),
    ("exclude", [""], TypeError, "exclude=['']: must be a list of glob patterns"),
    ("exclude", {"a": 1}, TypeError, "exclude={'a': 1}: must be a list of glob patterns"),
    ("measures", ["on_rates"], ValueError, "no measure is called 'on_rates'; did you mean 'on_rate'"),
    ("measures", ["slope", "xyz"], ValueError, f"no measure is called 'xyz'; known are {next(iter(all_measures()))}, "),
    ("measures", "standart", ValueError, "no measure is called 'standart'; did you mean 'standard'"),
    ("measures", "everything", ValueError, "Sets are economy, standard, full"),
    ("measures", ["slope", "standrd"], ValueError, "no measure is called 'standrd'; did you mean 'standard'"),
    ("measures", 5, TypeError, 'measures=5: must be "economy", "standard", "full", or a list of names, e.g. ["on_'),
    ("measures", None, TypeError, 'measures=None: must be "economy"'),
    ("measures", [5], TypeError, 'measures=[5]: must be "economy"'),
    ("measures", b"slope", TypeError, "measures=b'slope': must be \"economy\""),
    ("measures", {"slope": 1}, TypeError, "measures={'slope': 1}: must be \"economy\""),
    ("measures", [], ValueError, "measures=[]: nothing would be measured; name measures, a set (economy, standard, fu"),
    ("rules", DeadNeurons, TypeError, "must be a list of rule objects"),
    ("rules", DeadNeurons(), TypeError, "must be a list of rule objects"),
    ("rules", "dead_neurons", TypeError, "rules='dead_neurons': must be a list of rule objects"),
    ("rules", [DeadNeurons], TypeError, "pass an object, with brackets behind its name. Known are dead_neurons, "),
    ("rules", ["dead_neurons"], TypeError, "'dead_neurons' is not a rule; pass rule objects. Known are dead_neurons, "),
    ("rules", [Saturation(), DeadNeurons(), Saturation()], ValueError, "saturation given more than once"),
]


@pytest.mark.parametrize(
    "construct",
    [Settings, NeuronHealth, lambda **bad: Monitor(network(), **bad)],
    ids=["Settings", "NeuronHealth", "Monitor"],
)
@pytest.mark.parametrize(("setting", "value", "error", "said"), BAD, ids=[f"{s}={v!r:.30}" for s, v, _, _ in BAD])
def test_bad_settings_are_refused_at_construction(
    construct: Any, setting: str, value: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)) as raised:
        construct(**{setting: value})
    assert str(raised.value).startswith(setting)


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        ({"serious": 0.9}, "warning=0.05, serious=0.9, critical=0.5): thresholds must be in order"),
        ({"warning": -0.1}, "warning=-0.1): must not be negative"),
        ({"rows": -1}, "rows=-1): must not be negative"),
        ({"windows": 0}, "windows=0): must be at least 1"),
        ({"grace": -1}, "grace=-1): must not be negative"),
    ],
)
def test_bad_thresholds_of_a_rule_are_refused(thresholds: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        DeadNeurons(**thresholds)
    assert str(raised.value).startswith("DeadNeurons(")


@pytest.mark.parametrize("setting", ["every_n_step", "sevrity"])
def test_unknown_settings_are_refused(setting: str) -> None:
    with pytest.raises(TypeError, match=setting):
        Monitor(network(), **{setting: 1})


# What is chosen


def chosen(**settings: Any) -> set[str]:
    return set(Settings(**settings).chosen_measures)


def test_sets_grow() -> None:
    economy, standard, full = (chosen(measures=name) for name in SETS)
    assert economy < standard < full == set(all_measures())


def test_economy_holds_what_it_promises() -> None:
    promised = {"on_rate", "zero_rate", "activation_std", "saturation_rate", "gradient_flow", "gradient_norm"}
    assert promised | {"nonfinite_rate", "train_loss"} <= chosen(measures="economy")


def test_standard_holds_what_every_rule_needs() -> None:
    settings = Settings(measures="standard")
    assert not settings.not_judged
    assert {rule.name for rule in settings.chosen_rules} == set(all_rules())


def test_economy_is_enough_for_the_great_sicknesses() -> None:
    judged = {rule.name for rule in Settings(measures="economy").chosen_rules}
    layers = {"dead_neurons", "saturation", "vanishing_activations", "exploding_activations"}
    assert layers | {"vanishing_gradients", "exploding_gradients", "non_finite"} <= judged


def test_named_measures_are_all_that_is_measured() -> None:
    assert chosen(measures=["slope", "on_rate"]) == {"slope", "on_rate"}
    assert chosen(measures="slope") == {"slope"}


def test_a_list_may_name_sets_too() -> None:
    assert chosen(measures=["economy", "taylor"]) == chosen(measures="economy") | {"taylor"}
    assert chosen(measures=["full", "economy"]) == set(all_measures())


def test_rules_alone_say_what_is_measured() -> None:
    needed = {name for name, optional in DeadNeurons.needs.items() if not optional}
    assert set(Settings(measures=[], rules=[DeadNeurons()]).chosen_measures) == needed
    with pytest.raises(ValueError, match=r"measures=\[\]: nothing would be measured"):
        Settings(measures=[], rules=[])


def test_a_rule_that_is_asked_for_brings_its_measures() -> None:
    settings = Settings(measures=["slope"], rules=[DeadNeurons()])
    needed = {name for name, optional in DeadNeurons.needs.items() if not optional}
    assert set(settings.chosen_measures) == {"slope"} | needed
    assert [rule.name for rule in settings.chosen_rules] == ["dead_neurons"]


def test_a_default_rule_without_its_measures_is_listed_with_what_it_needs() -> None:
    settings = Settings(measures=["zero_rate"])
    assert settings.chosen_rules == []
    needs = {
        name: [measure for measure, optional in rule.needs.items() if not optional and measure != "zero_rate"]
        for name, rule in all_rules().items()
    }
    assert settings.not_judged == {name: f"needs {', '.join(measures)}" for name, measures in needs.items()}


# What a monitor refuses when it sees the model


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("setting", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_refused_with_what_there_is(setting: str) -> None:
    with pytest.raises(ValueError, match=r"'decoder\.\*', '9' matches no module of Sequential; there are 0, 1, 2"):
        Monitor(network(), **{setting: ["decoder.*", "0", "9"]})


def test_many_layers_are_not_all_listed() -> None:
    deep = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))
    with pytest.raises(ValueError, match=r"there are 0, 1, 2, 3, 4, 5, 6, 7, …"):
        Monitor(deep, include=["x"])


@pytest.mark.parametrize("choice", [{"exclude": ["*"]}, {"include": ["0"], "exclude": ["?"]}, {"include": []}])
def test_patterns_that_leave_nothing_are_refused_with_what_there_is(choice: dict[str, list[str]]) -> None:
    with pytest.raises(
        ValueError, match=r"Sequential has no layer to watch: include and exclude leave none of 0, 1, 2"
    ):
        Monitor(network(), **choice)


@pytest.mark.parametrize("model", [nn.Sequential(), nn.Sequential(nn.BatchNorm1d(3), nn.LayerNorm(3))], ids=repr)
def test_a_model_without_layers_is_refused(model: nn.Module) -> None:
    with pytest.raises(
        ValueError, match=r"Sequential has no layer to watch: .* activation module, and no module of your"
    ):
        Monitor(model)


@pytest.mark.parametrize("model", [None, 5, "net", nn.Linear, [nn.Linear(2, 2)]], ids=repr)
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"model={model!r}: must be a torch.nn.Module")):
        Monitor(model)


def test_a_refused_model_keeps_no_hook() -> None:
    model = network()
    with pytest.raises(ValueError, match="leave none"):
        Monitor(model, exclude=["*"])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
