"""What we say of each activation function against torch's own function and autograd."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_neurohealth import activations
from lightning_neurohealth.activations import IDENTITY, Activation, from_function, from_module, register

INF = math.inf
Function = Callable[[Tensor], Tensor]


# Look-alikes of classes that are known by their names


class NewGELUActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class FastGELUActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x)))


class AccurateGELUActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.constant = math.sqrt(2 / math.pi)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(self.constant * (x + 0.044715 * x**3)))


class GELUTanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")


class PytorchGELUTanh(GELUTanh):
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")


class GELUActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


class QuickGELUActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ClippedGELUActivation(nn.Module):
    def __init__(self, min: float, max: float) -> None:
        super().__init__()
        self.min, self.max = min, max

    def forward(self, x: Tensor) -> Tensor:
        return torch.clip(F.gelu(x), self.min, self.max)


class SiLUActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


class MishActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tanh(F.softplus(x))


class ReLUSquaredActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.square(F.relu(x))


class HardSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu6(x + 3) / 6


class HardSigmoid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


class LinearActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


# Module, name, torch's function written out independently
KNOWN: list[tuple[nn.Module, str, Function]] = [
    (nn.ReLU(), "relu", F.relu),
    (nn.ReLU(inplace=True), "relu", F.relu),
    (nn.ReLU6(), "relu6", F.relu6),
    (nn.LeakyReLU(), "leaky_relu", partial(F.leaky_relu, negative_slope=0.01)),
    (nn.LeakyReLU(0.1), "leaky_relu", partial(F.leaky_relu, negative_slope=0.1)),
    (nn.LeakyReLU(0.0), "leaky_relu", partial(F.leaky_relu, negative_slope=0.0)),
    (nn.LeakyReLU(-0.5), "leaky_relu", partial(F.leaky_relu, negative_slope=-0.5)),
    (nn.RReLU(0.2, 0.3), "rrelu", partial(F.leaky_relu, negative_slope=0.25)),
    (nn.ELU(), "elu", F.elu),
    (nn.ELU(0.5), "elu", partial(F.elu, alpha=0.5)),
    (nn.ELU(3.0), "elu", partial(F.elu, alpha=3.0)),
    (nn.ELU(0.0), "elu", partial(F.elu, alpha=0.0)),
    (nn.ELU(-0.5), "elu", partial(F.elu, alpha=-0.5)),
    (nn.CELU(2.0), "celu", partial(F.celu, alpha=2.0)),
    (nn.CELU(20.0), "celu", partial(F.celu, alpha=20.0)),
    (nn.SELU(), "selu", F.selu),
    (nn.GELU(), "gelu", F.gelu),
    (nn.GELU("tanh"), "gelu_tanh", partial(F.gelu, approximate="tanh")),
    (nn.SiLU(), "silu", F.silu),
    (nn.Mish(), "mish", F.mish),
    (nn.Softplus(), "softplus", F.softplus),
    (nn.Softplus(2, 3), "softplus", partial(F.softplus, beta=2.0, threshold=3.0)),
    (nn.Softplus(0.02), "softplus", partial(F.softplus, beta=0.02)),
    (nn.Tanh(), "tanh", torch.tanh),
    (nn.Sigmoid(), "sigmoid", torch.sigmoid),
    (nn.LogSigmoid(), "log_sigmoid", F.logsigmoid),
    (nn.Softsign(), "softsign", F.softsign),
    (nn.Hardtanh(), "hardtanh", F.hardtanh),
    (nn.Hardtanh(-0.3, 100), "hardtanh", partial(F.hardtanh, min_val=-0.3, max_val=100.0)),
    (nn.Hardtanh(-1, 0), "hardtanh", partial(F.hardtanh, min_val=-1.0, max_val=0.0)),
    (nn.Hardsigmoid(), "hardsigmoid", F.hardsigmoid),
    (nn.Hardswish(), "hardswish", F.hardswish),
    (nn.Hardshrink(0.7), "hardshrink", partial(F.hardshrink, lambd=0.7)),
    (nn.Softshrink(0.7), "softshrink", partial(F.softshrink, lambd=0.7)),
    (nn.Threshold(0.1, -20), "threshold", partial(F.threshold, threshold=0.1, value=-20.0)),
    (nn.Threshold(0.1, 20), "threshold", partial(F.threshold, threshold=0.1, value=20.0)),
    (NewGELUActivation(), "gelu_tanh", NewGELUActivation()),
    (FastGELUActivation(), "gelu_tanh", FastGELUActivation()),
    (AccurateGELUActivation(), "gelu_tanh", AccurateGELUActivation()),
    (GELUTanh(), "gelu_tanh", GELUTanh()),
    (PytorchGELUTanh(), "gelu_tanh", PytorchGELUTanh()),
    (GELUActivation(), "gelu", GELUActivation()),
    (QuickGELUActivation(), "quick_gelu", QuickGELUActivation()),
    (QuickGELU(), "quick_gelu", QuickGELU()),
    (ClippedGELUActivation(-10, 5), "clipped_gelu", ClippedGELUActivation(-10, 5)),
    (ClippedGELUActivation(-0.1, 1), "clipped_gelu", ClippedGELUActivation(-0.1, 1)),
    (SiLUActivation(), "silu", SiLUActivation()),
    (Swish(), "silu", Swish()),
    (MishActivation(), "mish", MishActivation()),
    (ReLUSquaredActivation(), "relu_squared", ReLUSquaredActivation()),
    (HardSwish(), "hardswish", HardSwish()),
    (HardSigmoid(), "hardsigmoid", HardSigmoid()),
]
IDS = [repr(module) for module, *_ in KNOWN]
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
every = pytest.mark.parametrize(("module", "name", "f"), KNOWN, ids=IDS)
every_module = pytest.mark.parametrize("module", [module for module, *_ in KNOWN], ids=IDS)

# dense, with every kink
GRID = torch.arange(-2000, 2001, dtype=torch.float64) / 100
KINKS = torch.tensor([0.0, -0.3, 0.1, 0.7, -0.7, 1.0, -1.0, 3.0, -3.0, 6.0, 100.0], dtype=torch.float64)


def known(module: nn.Module) -> Activation:
    activation = from_module(module)
    assert activation is not None
    return activation


def autograd(f: Function, z: Tensor) -> Tensor:
    z = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(z).sum(), z)
    return slope


def slope_of(activation: Activation, z: Tensor) -> Tensor:
    """The derivative of every element of a vector, folded as the callback does."""
    return activation.derivative(z.view(1, 1, -1)).view(-1)


def own_kernel(f: Function) -> bool:
    """Whether torch computes f in one kernel, whose convention at kinks is ours; so is that of clip."""
    return not isinstance(f, nn.Module) or isinstance(f, ClippedGELUActivation)


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


# Shape against brute force

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


# Recognition


class Watch(TorchFunctionMode):
    """Collects the activations among all calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Activation] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        activation = from_function(func, args, kwargs)
        if activation is not None:
            self.seen.append(activation)
        return func(*args, **(kwargs or {}))


SLOPES = torch.tensor([0.3], dtype=torch.float64)
SPELLINGS: dict[str, list[str]] = {
    "relu": """F.relu(x); F.relu(x, True); F.relu(input=x); F.relu(x, inplace=True); F.relu_(x); x.relu(); x.relu_();
        torch.relu(x); torch.relu(input=x); torch.relu_(x); torch.clamp(x, 0); torch.clamp(x, min=0); x.clamp(0);
        torch.clamp(x, min=0.0, max=None); x.clamp(min=0); x.clamp_(0); x.clamp_(min=0); torch.clamp_(x, 0);
        torch.clamp_min(x, 0); torch.clamp_min_(x, 0); x.clamp_min(0); x.clamp_min(min=0); x.clamp_min_(0.0);
        torch.clip(x, 0); torch.clip_(x, min=0); x.clip(0); x.clip_(0); nn.ReLU()(x); nn.ReLU(inplace=True)(x)""",
    "relu6": """F.relu6(x); F.relu6(x, inplace=True); nn.ReLU6()(x); nn.ReLU6(True)(x); F.hardtanh(x, 0, 6)""",
    "leaky_relu": """F.leaky_relu(x); F.leaky_relu(x, 0.2); F.leaky_relu(x, negative_slope=0.2, inplace=True);
        F.leaky_relu_(x, 0.2); F.leaky_relu_(x); nn.LeakyReLU(0.2)(x); nn.LeakyReLU(0.2, True)(x)""",
    "prelu": """F.prelu(x, SLOPES); torch.prelu(x, SLOPES); torch.prelu(x, weight=SLOPES); x.prelu(SLOPES);
        nn.PReLU().double()(x)""",
    "rrelu": """F.rrelu(x); F.rrelu(x, 0.1, 0.2); F.rrelu(x, 0.1, 0.2, False, True); F.rrelu_(x, 0.1, 0.2);
        torch.rrelu(x); torch.rrelu(x, 0.1, 0.2, False); torch.rrelu_(x); nn.RReLU().eval()(x)""",
    "elu": """F.elu(x); F.elu(x, 2.0); F.elu(x, alpha=0.5, inplace=True); F.elu_(x); F.elu_(x, 2.0); nn.ELU(2.0)(x)""",
    "celu": """F.celu(x); F.celu(x, 2.0); F.celu(x, 2.0, True); F.celu_(x, 2.0); torch.celu(x, 2.0);
        torch.celu(x, alpha=2.0); torch.celu_(x, 2.0); torch.celu_(x); nn.CELU(2.0)(x)""",
    "selu": """F.selu(x); F.selu(x, inplace=True); F.selu_(x); torch.selu(x); torch.selu_(x); nn.SELU()(x)""",
    "gelu": """F.gelu(x); F.gelu(x, approximate="none"); F.gelu(input=x); nn.GELU()(x)""",
    "gelu_tanh": """F.gelu(x, approximate="tanh"); nn.GELU("tanh")(x)""",
    "silu": """F.silu(x); F.silu(x, inplace=True); nn.SiLU()(x)""",
    "mish": """F.mish(x); F.mish(x, inplace=True); nn.Mish()(x)""",
    "softplus": """F.softplus(x); F.softplus(x, 2, 1); F.softplus(x, beta=2); F.softplus(x, threshold=0.5);
        nn.Softplus(3, 2)(x)""",
    "tanh": """torch.tanh(x); torch.tanh(input=x); torch.tanh_(x); x.tanh(); x.tanh_(); F.tanh(x); nn.Tanh()(x)""",
    "sigmoid": """torch.sigmoid(x); torch.sigmoid_(x); x.sigmoid(); x.sigmoid_(); F.sigmoid(x); torch.special.expit(x);
        nn.Sigmoid()(x); x * torch.sigmoid(x)""",
    "log_sigmoid": """F.logsigmoid(x); nn.LogSigmoid()(x)""",
    "softsign": """F.softsign(x); nn.Softsign()(x)""",
    "hardtanh": """F.hardtanh(x); F.hardtanh(x, -2, 2); F.hardtanh(x, min_val=-2, inplace=True); F.hardtanh_(x);
        F.hardtanh_(x, -2.0, 1.5); nn.Hardtanh(-2, 0.5)(x)""",
    "hardsigmoid": """F.hardsigmoid(x); F.hardsigmoid(x, inplace=True); nn.Hardsigmoid()(x)""",
    "hardswish": """F.hardswish(x); F.hardswish(x, inplace=True); nn.Hardswish()(x)""",
    "hardshrink": """F.hardshrink(x); F.hardshrink(x, lambd=0.3); torch.hardshrink(x); x.hardshrink(0.3);
        nn.Hardshrink(0.3)(x)""",
    "softshrink": """F.softshrink(x); F.softshrink(x, 0.3); nn.Softshrink(0.3)(x)""",
    "threshold": """F.threshold(x, 0.1, 20.0); F.threshold(x, 0.1, 20.0, True); F.threshold_(x, 0.1, 20.0);
        torch.threshold(x, 0.1, 20.0); torch.threshold_(x, 0.1, 20.0); nn.Threshold(0.1, 20.0)(x)""",
}
EACH = [(name, spelling.strip()) for name, text in SPELLINGS.items() for spelling in text.split(";")]


@pytest.mark.parametrize(("name", "spelling"), EACH, ids=[spelling for _, spelling in EACH])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_spelling(name: str, spelling: str) -> None:
    def f(x: Tensor) -> Tensor:
        return eval(spelling, {"F": F, "nn": nn, "torch": torch, "SLOPES": SLOPES, "x": x.clone()})

    z = torch.linspace(-4.01, 3.99, 800, dtype=torch.float64)  # without 0, where clamp differs from relu
    with Watch() as watch:
        f(z)
    (activation,) = watch.seen
    assert activation.name == name
    if "x * " not in spelling:
        torch.testing.assert_close(slope_of(activation, z), autograd(f, z))


def test_spelling_with_out() -> None:
    z = torch.randn(3)
    with Watch() as watch:
        torch.tanh(z, out=torch.empty(3))
    assert [activation.name for activation in watch.seen] == ["tanh"]


NOT_ONE = """x.softmax(0); F.softmax(x, 0); x.log_softmax(0); F.log_softmax(x, 0); x.exp(); x.sqrt(); x.abs(); x.erf();
    torch.clamp(x, 0, 1); x.clamp(max=0); x.clamp(min=-1); x.clamp_min(1); torch.clamp(x, min=torch.zeros(3));
    torch.maximum(x, torch.zeros(3)); F.dropout(x); F.layer_norm(x, (3,)); F.normalize(x, dim=0); x.clamp(0, INF);
    F.linear(x, torch.ones(2, 3)); F.glu(x[:2]); nn.Identity()(x); x + 1"""


@pytest.mark.parametrize("spelling", [spelling.strip() for spelling in NOT_ONE.split(";")])
def test_not_an_activation(spelling: str) -> None:
    with Watch() as watch:
        eval(spelling, {"F": F, "nn": nn, "torch": torch, "INF": INF, "x": torch.rand(3)})
    assert watch.seen == []


def test_random_relu_in_training_has_the_mean_slope() -> None:
    with Watch() as watch:
        F.rrelu(torch.ones(3), 0.1, 0.3, training=True)
    z = torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(slope_of(watch.seen[0], z), torch.tensor([0.2, 1.0]))


@pytest.mark.parametrize(
    ("function", "kwargs"),
    [(F.softplus, {"beta": torch.tensor(2.0)}), (F.celu, {"alpha": torch.tensor(2.0)})],
)
def test_parameters_that_are_tensors_are_not_read(function: Any, kwargs: dict[str, Any]) -> None:
    assert from_function(function, (torch.randn(3),), kwargs) is None
    assert from_function(function, (torch.randn(3),), dict.fromkeys(kwargs, 2.0)) is not None


def test_equal_calls_share_one_activation() -> None:
    first = from_function(F.elu, (torch.randn(3),), {"alpha": 2.0, "inplace": True})
    assert first is from_function(F.elu, (torch.randn(2),), {"alpha": 2.0, "inplace": False})
    assert first is not from_function(F.elu, (torch.randn(3),), {"alpha": 3.0, "inplace": True})
    assert from_module(nn.GELU()) is from_module(nn.GELU())
    assert from_module(nn.GELU()) is not from_module(nn.GELU("tanh"))


@every_module
def test_derivative_is_not_taken_for_an_activation(module: nn.Module) -> None:
    activation = known(module)
    with Watch() as watch:
        activation.derivative(torch.randn(2, 3, 4))
    assert watch.seen == []


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


# PReLU


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3), (2, 5, 3, 4)], ids=str)
@pytest.mark.parametrize("parameters", [1, 5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_prelu_slopes(shape: tuple[int, ...], parameters: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = nn.PReLU(parameters)
    activation = known(module)

    def check() -> None:
        z = torch.randn(shape).to(dtype)
        z.view(-1)[0] = 0
        actual = activation.derivative(z.view(shape[0], shape[1], -1))
        expected = autograd(lambda x: F.prelu(x, module.weight.to(dtype)), z)
        torch.testing.assert_close(actual, expected.view_as(actual))
        assert not actual.requires_grad

    check()
    with torch.no_grad():  # a step of the optimizer
        module.weight.copy_(torch.linspace(-0.5, 1.5, parameters))
    check()
    module.weight = nn.Parameter(torch.full((parameters,), 0.7))  # a replacement
    check()


def test_prelu_function_reads_the_current_slopes() -> None:
    weight = nn.Parameter(torch.full((3,), 0.25))
    with Watch() as watch:
        F.prelu(torch.randn(2, 3), weight)
    with torch.no_grad():
        weight.copy_(torch.tensor([0.1, 0.2, 0.3]))
    slope = watch.seen[0].derivative(-torch.ones(1, 3, 2))
    torch.testing.assert_close(slope, torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1).expand(1, 3, 2))
    assert not slope.requires_grad


def test_prelu_shape() -> None:
    activation = known(nn.PReLU(3))
    assert (activation.name, activation.dead_values, activation.lower, activation.upper) == ("prelu", (), None, None)
    assert (activation.tails, activation.peak) == ((-INF, INF), 1.0)
    z = torch.tensor([1e4, -1e4, math.nan, 0.0, 1.0, -1.0]).view(1, 3, 2)
    assert activation.derivative(z).flatten().tolist() == pytest.approx([1, 0.25, math.nan, 0.25, 1, 0.25], nan_ok=True)


def test_prelu_with_slopes_along_another_axis() -> None:
    module = nn.PReLU(2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.1, 0.3]))
    slope = known(module).derivative(torch.tensor([-1.0, 1.0, -2.0]).view(1, 3, 1))
    torch.testing.assert_close(slope.flatten(), torch.tensor([0.2, 1.0, 0.2]))


# Copies and registration


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
    monkeypatch.setattr(activations, "_MODULES", dict(activations._MODULES))
    monkeypatch.setattr(activations, "_FUNCTIONS", dict(activations._FUNCTIONS))


@pytest.mark.usefixtures("registry")
def test_register() -> None:
    class Sine(nn.Module):
        def __init__(self, frequency: float) -> None:
            super().__init__()
            self.frequency = frequency

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(self.frequency * x)

    class Siren(Sine):
        pass

    def sine(frequency: float = 1.0) -> Activation:
        return Activation("sine", lambda z: frequency * torch.cos(frequency * z), lower=-1.0, upper=1.0)

    assert from_module(Sine(3.0)) is None
    assert from_function(torch.sin, (torch.ones(3),)) is None
    z = torch.randn(7, dtype=torch.float64)

    register("Sine", lambda module: sine(module.frequency))
    torch.testing.assert_close(slope_of(known(Siren(3.0)), z), autograd(Sine(3.0), z))
    register(Sine, lambda module: sine(-module.frequency))  # the class itself goes before its name
    torch.testing.assert_close(slope_of(known(Siren(3.0)), z), autograd(Sine(-3.0), z))

    register(torch.sin, sine)
    with Watch() as watch:
        torch.sin(z)
    torch.testing.assert_close(slope_of(watch.seen[0], z), autograd(torch.sin, z))
    register(nn.ReLU, lambda module: None)
    assert from_module(nn.ReLU()) is None
