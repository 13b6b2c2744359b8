"""The thresholds of every rule as they were agreed on, so that none moves by accident."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from lightning_neurohealth.rules import Rule, all_rules

BANDS = {"warning": 0.05, "serious": 0.20, "critical": 0.50}
WINDOWS = {"windows": 2, "grace": 10}
AGREED: dict[str, dict[str, Any]] = {
    "dead_neurons": {**BANDS, "rows": 1000, "windows": 1},  # what is dead cannot heal
    "dead_weights": {"serious": 0.90},
    "dormant_neurons": {"tau": 0.025, "serious": 0.25},
    "exploding_activations": {"serious": 1e3, "block": 3, "blocks": 4},
    "exploding_gradients": {"leap": 100, "memory": 50, "windows": 1},  # it looks back by itself
    "linear_activation": {"near": 0.01},
    "loss_spike": {"height": 10, "windows": 1},  # a step is of one window
    "low_gradient_snr": {"serious": 1.5, "measured": 20},
    "no_gradient": {"steps": 20, "windows": 1},  # it takes an epoch
    "non_finite": {"windows": 1, "grace": 0},
    "overfitting": {"serious": 1.3, "evaluations": 3, "windows": 1},  # it counts evaluations
    "plateau": {"steps": 100, "learned": 0.05},
    "poor_initialization": {"off": 100, "windows": 1},  # of the first step
    "redundant_neurons": {**BANDS, "distance": 1e-3, "cosine": 0.99},
    "saturation": {"serious": 0.80},
    "stalled_progress": {"stretch": 5},
    "update_ratio_high": {"serious": 0.1, "critical": 1.0, "grace": 20},
    "update_ratio_low": {"serious": 1e-6, "decayed": 0.1, "grace": 20},
    "vanishing_activations": {"serious": 1e-5},
    "vanishing_gradients": {"serious": 1e-5, "steps": 20, "early": 1e-3},
}


def test_every_rule_has_its_row() -> None:
    assert AGREED.keys() == all_rules().keys()


@pytest.mark.parametrize("rule", all_rules().values(), ids=all_rules())
def test_thresholds_are_those_agreed_on(rule: type[Rule]) -> None:
    agreed = {**WINDOWS, **AGREED[rule.name]}
    defaults = {field.name: field.default for field in fields(rule)}
    assert {name: defaults[name] for name in agreed} == agreed
