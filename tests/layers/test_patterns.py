"""Which layers the user wants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_neurohealth import Monitor, coverage
from tests.training import MLP, layers_of, watch_step


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"include": ["0"]}, ["0.fc1", "0.fc2"]),
        ({"include": ["*.fc1"]}, ["0.fc1", "1.fc1"]),
        ({"exclude": ["0"]}, ["1.fc1", "1.fc2"]),
        ({"exclude": ["*.fc2"]}, ["0.fc1", "1.fc1"]),
        ({"include": ["1"], "exclude": ["1.fc2"]}, ["1.fc1"]),
    ],
    ids=str,
)
def test_include_and_exclude(choice: dict[str, Any], names: list[str]) -> None:
    first = MLP()
    first.fc2 = nn.Linear(8, 4)
    net, x = nn.Sequential(first, MLP()), torch.randn(5, 4)
    layers = layers_of(net, x, steps=2, **choice)
    assert list(layers) == names
    for name in names:
        assert layers[name].activation == (f"{name[0]}.act" if name.endswith("fc1") else None)
    _, report = watch_step(net, x, **choice)
    assert set(report.coverage.unwatched) == {"0.fc1", "0.fc2", "1.fc1", "1.fc2"} - set(names)
    assert set(report.coverage.unwatched.values()) == {"excluded"}


def test_pattern_that_matches_nothing() -> None:
    with pytest.raises(ValueError, match=r"'encoder\.\*' matches no module of MLP; there are fc1, act, fc2"):
        Monitor(MLP(), include=["encoder.*"])


def test_patterns_that_leave_nothing() -> None:
    with pytest.raises(ValueError, match="include and exclude leave none"):
        Monitor(MLP(), exclude=["*"])


def test_model_without_layers() -> None:
    with pytest.raises(ValueError, match="Sequential has no layer to watch"):
        Monitor(nn.Sequential(nn.LayerNorm(3)))


def test_a_device_on_which_nothing_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "SINGLE_ONLY", {"cpu"})
    with pytest.raises(ValueError, match=r"MLP is on cpu, which has no double precision.*accelerator='cpu'"):
        Monitor(MLP())
