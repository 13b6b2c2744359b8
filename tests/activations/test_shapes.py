"""What we say of bounds, tails and flat ends against brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_neurohealth.activations import IDENTITY
from tests.activations.known import INF, KINKS, Function, autograd, every, known
from tests.activations.lookalikes import ClippedGELUActivation

WIDE = torch.linspace(-600, 600, 1_200_001, dtype=torch.float64) + 1e-4
FAR = 10 ** torch.linspace(2, 8, 13, dtype=torch.float64)


@every
def test_bounds(module: nn.Module, name: str, f: Function) -> None:
    a = f(torch.cat([WIDE, FAR, -FAR, KINKS, KINKS + 1e-9]))
    smallest, largest = a.min().item(), a.max().item()
    activation = known(module)
    assert activation.lower == (None if smallest < -1e3 else pytest.approx(smallest, abs=1e-6))
    assert activation.upper == (None if largest > 1e3 else pytest.approx(largest, abs=1e-6))
    if activation.lower is not None:  # an infimum: nothing lies below, but for the last digit
        assert smallest >= activation.lower - 1e-8


@every
def test_dead_values(module: nn.Module, name: str, f: Function) -> None:
    # narrow enough for no smooth tail to underflow to 0; two neighbours at 0 are a piece, one is an extremum
    z = torch.linspace(-6.5, 6.5, 1301, dtype=torch.float64)
    flat = autograd(f, z) == 0
    inside = flat[1:-1] & flat[:-2] & flat[2:]
    values = f(z)[1:-1][inside].unique().tolist()
    if module.__class__ is nn.Hardtanh:  # one end may lie outside of z
        values = sorted({*values, module.min_val, module.max_val})
    assert sorted(known(module).dead_values) == pytest.approx(values)


@every
def test_tails_and_peak(module: nn.Module, name: str, f: Function) -> None:
    activation = known(module)
    if name == "relu_squared":  # no largest slope
        assert (activation.tails, activation.peak) == ((0.0, INF), 1.0)
        return
    slope = autograd(f, WIDE).abs()
    assert activation.peak == pytest.approx(slope.max().item(), rel=1e-3)
    if name in ("tanh", "sigmoid"):
        limit = {"tanh": 2.5, "sigmoid": 5.0}[name]
        assert activation.tails == (-limit, limit)
        assert slope[WIDE.abs() > limit].max() < 0.05 * slope.max()
        return
    steep = WIDE[slope >= 0.05 * slope.max()]
    low, high = activation.tails
    unit = 50 if "0.02" in repr(module) else 20 if "20.0" in repr(module) else 1  # of z, which scales the grid
    for tail, edge, end in ((low, steep[0].item(), WIDE[0].item()), (high, steep[-1].item(), WIDE[-1].item())):
        assert tail == (math.copysign(INF, end) if edge == end else pytest.approx(edge, abs=2.1e-3 * unit))


@pytest.mark.parametrize(
    ("module", "tails"),
    [
        (nn.ReLU(), (0, INF)),
        (nn.ReLU6(), (0, 6)),
        (nn.LeakyReLU(0.01), (0, INF)),
        (nn.LeakyReLU(0.1), (-INF, INF)),
        (nn.ELU(), (-2.996, INF)),
        (nn.PReLU(), (-INF, INF)),
        (nn.Hardtanh(-0.3, 100), (-0.3, 100)),
        (nn.Threshold(0.1, 20), (0.1, INF)),
        (nn.Softsign(), (-3.473, 3.473)),
        (nn.Softplus(0.02), (-147.25, INF)),
    ],
    ids=repr,
)
def test_tails_by_hand(module: nn.Module, tails: tuple[float, float]) -> None:
    assert known(module).tails == pytest.approx(tails, rel=1e-9)


@pytest.mark.parametrize(
    ("module", "level", "bounds"),
    [
        (nn.Tanh(), 0.99, (-0.99, 0.99)),
        (nn.Tanh(), 0.9, (-0.9, 0.9)),
        (nn.Sigmoid(), 0.99, (0.01, 0.99)),
        (nn.Sigmoid(), 0.9, (0.1, 0.9)),
        (nn.Softsign(), 0.99, (-0.99, 0.99)),
        (nn.ReLU6(), 0.9, (None, 6.0)),
        (nn.Hardtanh(-2, 3), 0.9, (-2.0, 3.0)),
        (nn.Hardtanh(-2, 0), 0.9, (-2.0, None)),
        (nn.Hardsigmoid(), 0.9, (None, 1.0)),
        (ClippedGELUActivation(-10, 5), 0.9, (None, 5.0)),
        (ClippedGELUActivation(-0.1, 5), 0.9, (-0.1, 5.0)),
        (nn.Threshold(0.1, -20), 0.9, (-20.0, None)),
        (nn.Threshold(0.1, 20), 0.9, (None, None)),
        *(
            (module, 0.99, (None, None))
            for module in (
                *(nn.ReLU(), nn.LeakyReLU(), nn.PReLU(), nn.RReLU(), nn.ELU(), nn.CELU(), nn.SELU(), nn.GELU()),
                *(nn.SiLU(), nn.Mish(), nn.Softplus(), nn.LogSigmoid(), nn.Hardswish(), nn.Hardshrink()),
            )
        ),
    ],
    ids=repr,
)
def test_saturation_bounds(module: nn.Module, level: float, bounds: tuple[float | None, float | None]) -> None:
    activation = known(module)
    for actual, expected in zip(activation.saturation_bounds(level), bounds, strict=True):
        assert actual == (None if expected is None else pytest.approx(expected))
    assert activation.saturates == (bounds != (None, None))
    assert activation.saturation_bounds(0.99) == activation.saturation_bounds()


@pytest.mark.parametrize(
    ("module", "init", "gain"),
    [
        (nn.ReLU(), "he", 2**0.5),
        (nn.ReLU6(), "he", 2**0.5),
        (nn.Hardtanh(), "xavier", 1.0),
        (nn.LeakyReLU(0.5), "he", (2 / 1.25) ** 0.5),
        (nn.RReLU(0.4, 0.6), "he", (2 / 1.25) ** 0.5),
        (nn.PReLU(init=0.5), "he", (2 / 1.25) ** 0.5),
        (nn.ELU(), "he", 2**0.5),
        (nn.CELU(), "he", 2**0.5),
        (nn.GELU(), "he", 2**0.5),
        (nn.SiLU(), "he", 2**0.5),
        (nn.Mish(), "he", 2**0.5),
        (nn.Softplus(), "he", 2**0.5),
        (nn.Hardswish(), "he", 2**0.5),
        (nn.SELU(), "lecun", 1.0),
        (nn.Tanh(), "xavier", 5 / 3),
        (nn.Sigmoid(), "xavier", 1.0),
        (nn.Softsign(), "xavier", 1.0),
        (nn.Hardsigmoid(), "xavier", 1.0),
    ],
    ids=repr,
)
def test_initialisation(module: nn.Module, init: str, gain: float) -> None:
    activation = known(module)
    assert (activation.init, activation.gain) == (init, pytest.approx(gain))
    assert not activation.linear


def test_identity() -> None:
    z = torch.randn(2, 3, 4, dtype=torch.float16)
    assert torch.equal(IDENTITY.derivative(z), torch.ones(2, 3, 4, dtype=torch.float16))
    assert (IDENTITY.linear, IDENTITY.gain, IDENTITY.init, IDENTITY.saturates) == (True, 1.0, "lecun", False)
    assert (IDENTITY.dead_values, IDENTITY.tails, IDENTITY.peak) == ((), (-INF, INF), 1.0)
