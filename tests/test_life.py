"""The life-cycle of neurons over windows."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from lightning_neurohealth.life import Life, observe, silent_neurons
from tests.rules import by_hand

CYCLE = [
    [False, True, False, True],
    [False, True, True, True],
    [False, True, True, False],
    [False, True, True, True],
]
"""Four windows of four neurons: one always fires, one never does, one dies, one comes and goes."""


def life_of(windows: list[list[bool]], birth: list[bool] | None = None, rates: Any = None) -> Life:
    life = Life.of(torch.tensor(birth if birth is not None else windows[0]))
    for i, silent in enumerate(windows):
        facts = {"steps": 10, "seen": 10 * (i + 1), "measured": 2, "epochs": 0.25}
        rate = rates[i] if rates else float("nan")
        life.observe(torch.tensor(silent), 50.0, by_hand.window(learning_rate=rate, **facts))
    return life


def test_counts_since_a_neuron_last_fired() -> None:
    life = life_of(CYCLE)
    assert life.silent.tolist() == [False, True, True, True]
    assert life.windows.tolist() == [0, 4, 3, 1]
    assert life.rows.tolist() == [0, 200, 150, 50]
    assert life.measured.tolist() == [0, 8, 6, 2]
    assert life.epochs.tolist() == [0, 1.0, 0.75, 0.25]


def test_tells_when_it_died_and_came_back() -> None:
    life = life_of(CYCLE)
    assert life.died.tolist() == [-1, 0, 10, 30]
    assert life.active.tolist() == [30, -1, 0, 20]
    assert life.revived.tolist() == [-1, -1, -1, 30]
    assert life.deaths.tolist() == [0, 0, 1, 1]


def test_tells_who_was_never_alive() -> None:
    assert life_of(CYCLE).born.tolist() == [False, True, False, False]
    assert life_of(CYCLE, birth=[False] * 4).born.tolist() == [False] * 4
    assert life_of(CYCLE, birth=[False] * 4).deaths.tolist() == [0, 1, 1, 2]


def test_keeps_the_learning_rate_of_that_window() -> None:
    rate = life_of(CYCLE, rates=[0.1, 0.2, 0.3, 0.4]).rate
    assert rate[[1, 2, 3]].tolist() == pytest.approx([0.1, 0.2, 0.4])
    assert rate[0].isnan()


def test_confirmed_after_several_windows_in_a_row() -> None:
    life = life_of(CYCLE)
    assert life.confirmed().tolist() == [False, True, True, False]
    assert life.confirmed(windows=4).tolist() == [False, True, False, False]
    life.observe(torch.tensor([True, False, True, True]), 50.0, by_hand.window())
    assert life.confirmed(windows=2).tolist() == [False, False, True, True]


def test_a_copy_stays_as_it_is() -> None:
    life = life_of(CYCLE)
    copy = life.copy()
    life.observe(torch.zeros(4, dtype=torch.bool), 50.0, by_hand.window())
    assert copy.windows.tolist() == [0, 4, 3, 1]
    assert life.windows.tolist() == [0, 0, 0, 0]


def measures(silent: Tensor) -> dict[str, Tensor]:
    return {
        "on_rate": 0.5 * (~silent).double(),
        "zero_rate": 0.5 + 0.5 * silent.double(),
        "activation_std": (~silent).double(),
        "activation_rows": torch.tensor(50.0),
    }


def test_a_window_without_rows_changes_nothing() -> None:
    layer, lives = by_hand.layer(2), {}
    seen = measures(torch.tensor([True, False]))
    observe(lives, {"fc1": layer}, {"fc1": seen}, {}, by_hand.window())
    observe(lives, {"fc1": layer}, {"fc1": {"gradient_flow": torch.ones(2)}}, {}, by_hand.window())
    observe(lives, {"fc1": layer}, {}, {}, by_hand.window())
    assert lives["fc1"].windows.tolist() == [1, 0]


def test_without_a_slope_only_zero_behind_a_dead_zone_is_proof() -> None:
    seen = measures(torch.tensor([True, False]))
    flat = {**seen, "slope": torch.zeros(2)}
    constant = {**flat, "on_rate": torch.ones(2), "zero_rate": torch.zeros(2)}  # 6 for ReLU6, 0.1 for a GELU
    layers = {
        "relu": by_hand.layer(2),
        "gelu": by_hand.layer(2, nn.GELU()),
        "flat gelu": by_hand.layer(2, nn.GELU()),
        "constant gelu": by_hand.layer(2, nn.GELU()),
        "unseen": by_hand.layer(2),
        "constant relu6": by_hand.layer(2, nn.ReLU6()),
        "steep relu": by_hand.layer(2),
    }
    numbers = {
        "relu": seen,
        "gelu": seen,
        "flat gelu": flat,
        "constant gelu": constant,
        "unseen": {"slope": torch.zeros(2)},
        "constant relu6": constant,
        "steep relu": {**flat, "slope": torch.tensor([1.0, 0.0])},
    }
    expected = {
        "relu": [True, False],
        "gelu": [False, False],
        "flat gelu": [True, False],
        "constant gelu": [False, False],
        "constant relu6": [True, False],
        "steep relu": [False, False],
    }
    assert {name: silent.tolist() for name, silent in silent_neurons(layers, numbers).items()} == expected
    for name, silent in expected.items():
        alone = silent_neurons({name: layers[name]}, numbers)[name]
        assert alone.tolist() == silent
        assert alone.untyped_storage().nbytes() == 2, "holds what is of other layers"


def test_uneventful_windows_say_only_when_all_were_last_active() -> None:
    life = life_of([[False, False]] * 3)
    never = Life.of(torch.zeros(2, dtype=torch.bool))
    for field in fields(Life):
        before, after = getattr(never, field.name), getattr(life, field.name)
        expected = torch.full_like(before, 20) if field.name == "active" else before
        torch.testing.assert_close(after, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("silent", [[True, False], [False, True], [False, False]])
def test_what_follows_leaves_no_trace_in_a_copy(silent: list[bool]) -> None:
    life = Life.of(torch.tensor([True, False]))
    copy = life.copy()
    before = {field.name: getattr(copy, field.name).clone() for field in fields(Life)}
    for _ in range(2):
        life.observe(torch.tensor(silent), 50.0, by_hand.window())
    for name, value in before.items():
        torch.testing.assert_close(getattr(copy, name), value, rtol=0, atol=0, equal_nan=True)


def test_follows_a_network_that_dies_and_is_cured() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        net[0].weight.fill_(0.1)
        net[0].bias.fill_(0.0)
        net[2].weight.fill_(1.0)
    monitor = Monitor(net, every_n_steps=1, window=5)

    def train(bias: float) -> None:
        with torch.no_grad():
            net[0].bias[1] = bias
        for _ in range(5):
            with monitor:
                net(torch.rand(8, 3)).sum().backward()

    for bias in (0.0, -9.0, -9.0, 0.0):
        train(bias)
    monitor.remove()
    assert monitor.report is not None
    life = monitor.report["0"].life
    assert life.deaths.tolist() == [0, 1, 0, 0]
    assert life.revived.tolist() == [-1, 20, -1, -1]
    assert life.windows.tolist() == [0, 0, 0, 0]
    assert [report["0"].life.windows[1] for report in monitor.reports] == [0, 1, 2, 0]
