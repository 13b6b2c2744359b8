"""Copies of activations, and those that a user makes known."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.activations import Activation, from_function, from_module, recognition, register
from tests.activations.known import KNOWN, Watch, autograd, known, slope_of


@pytest.mark.parametrize("module", [*(module for module, *_ in KNOWN), nn.PReLU(3)], ids=repr)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda activation: pickle.loads(pickle.dumps(activation))])
def test_copies(module: nn.Module, duplicate: Callable[[Activation], Activation]) -> None:
    activation = known(module)
    copied = duplicate(activation)
    z = torch.randn(2, 3, 4)
    assert (copied.name, copied.tails, copied.gain) == (activation.name, activation.tails, activation.gain)
    torch.testing.assert_close(copied.derivative(z), activation.derivative(z))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "_MODULES", dict(recognition._MODULES))
    monkeypatch.setattr(recognition, "_FUNCTIONS", dict(recognition._FUNCTIONS))


@pytest.mark.usefixtures("registry")
def test_register() -> None:
    class Cosine(nn.Module):
        def __init__(self, frequency: float) -> None:
            super().__init__()
            self.frequency = frequency

        def forward(self, x: Tensor) -> Tensor:
            return torch.cos(self.frequency * x)

    class Siren(Cosine):
        pass

    def cosine(frequency: float = 1.0) -> Activation:
        return Activation("cosine", lambda z: -frequency * torch.sin(frequency * z), lower=-1.0, upper=1.0)

    assert from_module(Cosine(3.0)) is None
    assert from_function(torch.cos, (torch.ones(3),)) is None
    z = torch.randn(7, dtype=torch.float64)

    register("Cosine", lambda module: cosine(module.frequency))
    torch.testing.assert_close(slope_of(known(Siren(3.0)), z), autograd(Cosine(3.0), z))
    register(Cosine, lambda module: cosine(-module.frequency))  # the class itself goes before its name
    torch.testing.assert_close(slope_of(known(Siren(3.0)), z), autograd(Cosine(-3.0), z))

    register(torch.cos, cosine)
    with Watch() as watch:
        torch.cos(z)
    torch.testing.assert_close(slope_of(watch.seen[0], z), autograd(torch.cos, z))
    register(nn.ReLU, lambda module: None)
    assert from_module(nn.ReLU()) is None
