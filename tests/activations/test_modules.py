"""Modules that are activations, and those that are none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth.activations import from_module
from tests.activations.known import known, slope_of
from tests.activations.lookalikes import LinearActivation, QuickGELU, Swish


@pytest.mark.parametrize(
    "module",
    [nn.Identity(), LinearActivation(), nn.Linear(2, 2), nn.Dropout(), nn.Softmax(0), nn.BatchNorm1d(2), nn.GLU()],
    ids=repr,
)
def test_module_without_activation(module: nn.Module) -> None:
    assert from_module(module) is None


def test_subclasses() -> None:
    class Leaky(nn.LeakyReLU):
        def __init__(self) -> None:
            super().__init__(0.3)

    class Shifted(nn.ReLU):
        def forward(self, input: Tensor) -> Tensor:
            return F.relu(input + 1)

    class FurtherShifted(Shifted):
        pass

    class MyQuickGELU(QuickGELU):
        pass

    class OtherQuickGELU(QuickGELU):
        def forward(self, x: Tensor) -> Tensor:
            return x

    z = torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(slope_of(known(Leaky()), z), torch.tensor([0.3, 1.0]))
    assert from_module(Shifted()) is None
    assert from_module(FurtherShifted()) is None
    assert known(MyQuickGELU()).name == "quick_gelu"
    assert from_module(OtherQuickGELU()) is None
    assert known(nn.ReLU6()).name == "relu6"  # itself a subclass of Hardtanh


def test_swish_with_a_learned_beta_is_not_silu() -> None:
    module = Swish()
    module.beta = nn.Parameter(torch.ones(1))
    assert from_module(module) is None
