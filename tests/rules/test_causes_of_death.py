"""Why neurons are dead, since when, and what to do, as the finding says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.rules import by_hand
from tests.rules.deaths import bias, judge, lived, measures, reach


def test_names_the_bias() -> None:
    verdict = judge(measures(60), evidence=bias(-34.0))
    assert "bias is negative and 34 times" in verdict.cause
    assert "zero bias" in verdict.remedy


def test_names_weights_that_cannot_reach() -> None:
    assert "cannot reach z > 0" in judge(measures(60), evidence=reach(-0.5)).cause


@pytest.mark.parametrize(("spread", "initialise"), [(0.41, True), (1.0, False)])
def test_advises_no_weights_that_are_there(spread: float, initialise: bool) -> None:
    """At 0.41 of He's, as torch draws them, He's would turn fewer neurons off."""
    verdict = judge(measures(60), born=60, evidence={**bias(-0.3), "init_scale": torch.tensor(spread)})
    assert ("(He)" in verdict.remedy) == initialise
    assert "normalise between fc1 and its activation" in verdict.remedy


def test_advises_no_norm_where_there_is_one() -> None:
    verdict = judge(measures(60), layer=by_hand.layer(normalized=True), born=60)
    assert "the norm before the activation shifts them there" in verdict.cause
    assert verdict.remedy == "set the bias of the norm behind fc1 to 0, or replace act by a LeakyReLU"
    died = judge(measures(60), layer=by_hand.layer(normalized=True), born=0)
    assert died.remedy == "lower the learning rate or warm it up, or replace act by a LeakyReLU"


def test_names_the_layer_before() -> None:
    layer = by_hand.layer(name="fc2", before="fc1")
    dead = lived(by_hand.layer(), measures(100), [], None)
    verdict = judge(measures(60), layer=layer, lives={"fc1": dead})
    assert "fc1, is dead" in verdict.cause
    assert verdict.remedy == "cure fc1 first"
    alive = lived(by_hand.layer(), measures(99), [], None)
    assert "fc1" not in judge(measures(60), layer=layer, lives={"fc1": alive}).cause


def test_names_the_step_and_the_learning_rate_at_which_they_died() -> None:
    verdict = judge(measures(60), [measures(0), measures(0), measures(60)], learning_rate=0.5)
    assert "they died while training, between steps 20 and 40, which points" in verdict.cause
    assert "(0.5 then)" in verdict.cause
    assert "nan" not in judge(measures(60), [measures(0)], learning_rate=float("nan")).cause


def test_dates_deaths_in_several_windows_from_the_first_to_the_last() -> None:
    verdict = judge(measures(60), [measures(0), measures(40), measures(40), measures(60)])
    assert "between steps 0 and 60, half of them by step 20" in verdict.cause
    assert "half of them" not in judge(measures(60), [measures(0), measures(20), measures(60)]).cause


def test_a_step_too_small_has_killed_nothing() -> None:
    """With weights that have not moved, a neuron that fired at first and not since fires seldom."""
    before = [measures(0), measures(0), measures(60)]
    facts: dict[str, Any] = {"learning_rate": 1e-7}
    still = judge(measures(60), before, evidence={"update_ratio": torch.tensor(1e-4)}, **facts)
    assert "fired seldom from the start, and the weights have hardly moved since" in still.cause
    assert "learning rate" not in still.cause + still.remedy
    moved = judge(measures(60), before, evidence={"update_ratio": torch.tensor(1e-3)}, **facts)
    assert "died while training" in moved.cause


@pytest.mark.parametrize(("born", "since"), [(60, "since the start"), (0, "fell silent between steps 20 and 40")])
def test_blames_no_step_for_what_is_frozen(born: int, since: str) -> None:
    """As of a target network, which is copied from one that learns."""
    before = [measures(born), measures(born), measures(60)]
    verdict = judge(measures(60), before, born=born, frozen=("fc1",), learning_rate=0.5)
    assert since in verdict.cause
    assert "fc1 is frozen" in verdict.cause
    assert "learning rate" not in verdict.cause + verdict.remedy


@pytest.mark.parametrize(
    ("place", "height", "told"), [(35, 11.0, True), (35, 9.0, False), (10, 50.0, False), (45, 50.0, False)]
)
def test_names_a_loss_that_leapt_before_they_fell_silent(place: int, height: float, told: bool) -> None:
    """They have been silent since step 40, and windows are of 20 steps."""
    losses = [1.0] * 80
    losses[place] = height
    verdict = judge(measures(60), [measures(0), measures(0), measures(60)], progress=by_hand.losses(*losses))
    assert (f"behind a loss that leapt to {height:g} at step {place}" in verdict.cause) == told
    assert ("clip gradients" in verdict.remedy) == told
