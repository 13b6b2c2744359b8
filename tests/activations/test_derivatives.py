"""What we say of the derivative against autograd."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from tests.activations.known import (
    DTYPES,
    GRID,
    KINKS,
    KNOWN,
    Function,
    Watch,
    autograd,
    every,
    every_module,
    known,
    own_kernel,
    slope_of,
)
from tests.activations.lookalikes import ReLUSquaredActivation


@every
def test_name_and_module(module: nn.Module, name: str, f: Function) -> None:
    assert known(module).name == name


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"),
    [
        (torch.float64, 1e-9, 1e-9),
        (torch.float32, 1e-5, 2e-6),
        (torch.float16, 4e-3, 4e-3),
        (torch.bfloat16, 3e-2, 3e-2),
    ],
    ids=str,
)
@every
def test_derivative_is_autograd(
    module: nn.Module, name: str, f: Function, dtype: torch.dtype, rtol: float, atol: float
) -> None:
    z = torch.cat([GRID, KINKS]).to(dtype)
    if not own_kernel(f):  # composed of parts: each with its own convention at ±3, and losing digits in low precision
        z = z[(z != 3) & (z != -3)]
        expected = autograd(f, z.double()).to(dtype)
        rtol, atol = max(rtol, 1e-7), max(atol, 1e-7)
    else:
        expected = autograd(f, z)
    actual = slope_of(known(module), z)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("module", "zeros"),
    [
        (nn.ReLU(), (0.0,)),
        (nn.ReLU6(), (0.0, 6.0)),
        (nn.Hardtanh(), (-1.0, 1.0)),
        (nn.Hardsigmoid(), (-3.0, 3.0)),
        (nn.Hardswish(), (-3.0,)),
        (nn.Threshold(0.5, 20), (0.5,)),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_derivative_is_zero_at_the_kink_and_not_beside_it(
    module: nn.Module, zeros: tuple[float, ...], dtype: torch.dtype
) -> None:
    z = torch.tensor(zeros, dtype=dtype)
    assert slope_of(known(module), z).tolist() == [0.0] * len(zeros)
    inward = torch.tensor([0.25 if (end, len(zeros)) != (max(zeros), 2) else -0.25 for end in zeros], dtype=dtype)
    assert slope_of(known(module), z + inward).ne(0).all()


@pytest.mark.parametrize("module", [nn.Tanh(), nn.Sigmoid()], ids=repr)
def test_low_precision_keeps_small_slopes(module: nn.Module) -> None:
    z = torch.linspace(-6, 6, 97).bfloat16()
    torch.testing.assert_close(
        slope_of(known(module), z).double(), autograd(module, z.double()), rtol=0.03, atol=0, check_dtype=False
    )


@every_module
def test_derivative_is_finite_far_out(module: nn.Module) -> None:
    z = torch.tensor([1e4, -1e4, 6e4, -6e4, 100.0, -100.0, 1e-4, -1e-4])
    if isinstance(module, ReLUSquaredActivation):  # f' = 2 z
        z = z / 2
    for dtype, times in itertools.product(DTYPES, (1, 9)):  # short and vectorised
        values = z.to(dtype).repeat(times)
        slope = slope_of(known(module), values)
        assert slope.shape == values.shape
        assert slope.isfinite().all()


@every_module
def test_derivative_keeps_nan(module: nn.Module) -> None:
    for dtype, size in itertools.product(DTYPES, (3, 67)):
        z = torch.linspace(-4, 4, size, dtype=dtype)
        z[::2] = math.nan
        assert torch.equal(slope_of(known(module), z).isnan(), z.isnan()), (dtype, size)


@every_module
def test_derivative_never_waits_for_a_value(module: nn.Module) -> None:
    z = torch.empty(2, 3, 4, device="meta")  # has no values: reading one raises
    assert known(module).derivative(z).shape == z.shape


@pytest.mark.parametrize("module", {name: module for module, name, _ in KNOWN}.values(), ids=repr)
def test_derivative_compiles_without_a_break(module: nn.Module) -> None:
    activation = known(module)
    torch.compiler.reset()
    z = torch.linspace(-4, 4, 9).view(1, 3, 3)
    compiled = torch.compile(lambda z: activation.derivative(z), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z), activation.derivative(z))


@every_module
def test_derivative_is_not_taken_for_an_activation(module: nn.Module) -> None:
    activation = known(module)
    with Watch() as watch:
        activation.derivative(torch.randn(2, 3, 4))
    assert watch.seen == []
