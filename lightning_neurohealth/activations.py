"""What is known about each activation function f, a = f(z), and how to recognise one in a running network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import calculate_gain

from lightning_neurohealth import derivatives

__all__ = ["HEADS", "IDENTITY", "Activation", "from_function", "from_module", "register"]


PLACES = 49
"""Of a learned shape: an odd number, so that one of them is 0."""


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation function f, as far as the measures need it.

    Attributes:
        name: The usual short name ("relu", "gelu_tanh").
        derivative: f'(z), elementwise, for z as a view `[outer, neurons, inner]`; equal to torch's autograd, kinks
            included. NaN stays NaN.
        dead_values: Values of a on the pieces where f' is exactly 0: a neuron that stays there cannot learn
            (ReLU 0; ReLU6 0 and 6).
        lower: Finite infimum of f, approached or reached, else None.
        upper: Finite supremum of f, approached or reached, else None.
        tails: For z below the first or above the second, |f'| stays under 5 % of `peak`; tanh and sigmoid by
            convention at 2.5 and 5.
        peak: Largest |f'(z)|; 1 where it has no finite or no fixed value (ReLU squared, PReLU).
        init: Initialisation that keeps variances: He et al. 2015, Glorot & Bengio 2010, LeCun et al. 1998.
        gain: Its gain, as in `torch.nn.init.calculate_gain`.
        linear: Whether f is the identity.
        periodic: Whether f repeats itself: it has bounds at which no neuron can be stuck, and so none here.
        parts: Names of the functions of which f is a mixture whose `shares`, a property of the module, are learned.
        places: At so many even places of [−3, 3] the shape that f has learned is looked at; 0 where it learns none.
    """

    name: str
    derivative: Callable[[Tensor], Tensor]
    dead_values: tuple[float, ...] = ()
    lower: float | None = None
    upper: float | None = None
    tails: tuple[float, float] = (-math.inf, math.inf)
    peak: float = 1.0
    init: Literal["he", "xavier", "lecun"] = "xavier"
    gain: float = 1.0
    linear: bool = False
    periodic: bool = False
    parts: tuple[str, ...] = ()
    places: int = 0

    @property
    def is_nonnegative(self) -> bool:
        """Whether f gives nothing below 0."""
        return self.lower is not None and self.lower >= 0

    @property
    def is_gate(self) -> bool:
        """Whether f' is 1 for z > 0 and 0 for every other number, as ReLU's is."""
        return self.derivative is derivatives.relu_slope

    @property
    def saturates(self) -> bool:
        """Whether a neuron can be stuck at an end of f other than a dead zone at 0."""
        return self.saturation_bounds() != (None, None)

    def saturation_bounds(self, level: float = 0.99) -> tuple[float | None, float | None]:
        """Values (low, high): a ≤ low or a ≥ high is saturated; None where f has no such end.

        Ends that f only approaches count from `level` of the way (tanh ±level, sigmoid 1 - level and level), and only
        if there are two: ELU or GELU flatten on one side by design. Ends that f reaches count themselves, except a
        flat end at 0, which is a dead zone (ReLU6: None and 6).
        """
        if self.lower is not None and self.upper is not None and not self.dead_values:
            margin = (1 - level) * max(abs(self.lower), abs(self.upper))
            return self.lower + margin, self.upper - margin
        low, high = (end if end in self.dead_values and end != 0 else None for end in (self.lower, self.upper))
        return low, high


# Factories: the parameters of one call (without the input) -> Activation.

_Factory = Callable[..., Activation | None]


def _measured(derivative: Callable[[Tensor], Tensor], unit: float) -> dict[str, Any]:
    """Tails and peak of f, from a grid of ±50 units."""
    z = torch.arange(-50_000, 50_001, dtype=torch.float64, device="cpu") * unit / 1000
    slope = derivative(z.view(1, 1, -1)).abs().flatten()
    peak = slope.max().item()
    steep = (slope >= 0.05 * peak).nonzero().flatten().tolist()
    first, last = steep[0] - 1, steep[-1] + 1
    tails = (z[first].item() if first >= 0 else -math.inf, z[last].item() if last < len(z) else math.inf)
    return {"tails": tails, "peak": peak}


def _activation(name: str, derivative: Callable[[Tensor], Tensor], /, unit: Any = 1.0, **known: Any) -> Activation:
    measured = {} if {"tails", "peak"} <= known.keys() else _measured(derivative, unit)
    return Activation(name, derivative, **measured | known)


_he = partial(_activation, init="he", gain=calculate_gain("relu"))


def _fixed(factory: Callable[..., Activation]) -> _Factory:
    """One Activation for equal parameters; None if one is a tensor, whose value we may not read."""
    cached = lru_cache(maxsize=256)(factory)

    def build(*parameters: Any, **named: Any) -> Activation | None:
        learned = any(isinstance(value, Tensor) for value in (*parameters, *named.values()))
        return None if learned else cached(*parameters, **named)

    return build


_relu = _fixed(partial(_he, "relu", derivatives.relu_slope, dead_values=(0.0,), lower=0.0))
# Primer (So et al. 2021): f' grows without bound, so that tails and peak are ReLU's
_square = partial(_he, "relu_squared", derivatives.relu_squared_slope, tails=(0.0, math.inf), peak=1.0)
_relu_squared = _fixed(partial(_square, dead_values=(0.0,), lower=0.0))
_silu = _fixed(partial(_he, "silu", partial(derivatives.aten, "silu_backward"), lower=-0.278464542761))
_quick_gelu = _fixed(partial(_he, "quick_gelu", derivatives.quick_gelu_slope, lower=-0.278464542761 / 1.702))
_mish = _fixed(partial(_he, "mish", partial(derivatives.aten, "mish_backward"), lower=-0.308843413016))
_tanh_known: dict[str, Any] = {"lower": -1.0, "upper": 1.0, "tails": (-2.5, 2.5), "gain": calculate_gain("tanh")}
_tanh = _fixed(partial(_activation, "tanh", derivatives.tanh_slope, **_tanh_known))
_sigmoid = _fixed(partial(_activation, "sigmoid", derivatives.sigmoid_slope, lower=0.0, upper=1.0, tails=(-5.0, 5.0)))
_log_sigmoid = _fixed(partial(_activation, "log_sigmoid", derivatives.log_sigmoid_slope, upper=0.0))
_sine = _fixed(partial(Activation, "sine", derivatives.sine_slope, periodic=True))
_softsign = _fixed(partial(_activation, "softsign", derivatives.softsign_slope, lower=-1.0, upper=1.0))
_hardsigmoid_slope = partial(derivatives.aten, "hardsigmoid_backward")
_hardsigmoid_known: dict[str, Any] = {"lower": 0.0, "upper": 1.0, "dead_values": (0.0, 1.0)}
_hardsigmoid = _fixed(partial(_activation, "hardsigmoid", _hardsigmoid_slope, **_hardsigmoid_known))
_hardswish_slope = partial(derivatives.aten, "hardswish_backward")
_hardswish_known: dict[str, Any] = {"lower": -0.375, "dead_values": (0.0,), "tails": (-3.0, math.inf), "peak": 1.5}
_hardswish = _fixed(partial(_he, "hardswish", _hardswish_slope, **_hardswish_known))


@_fixed
def _leaky_relu(negative_slope: float = 0.01, name: str = "leaky_relu") -> Activation:
    derivative = partial(derivatives.aten, "leaky_relu_backward", negative_slope=negative_slope, self_is_result=False)
    gain, lower = calculate_gain("leaky_relu", negative_slope), 0.0 if negative_slope <= 0 else None
    return _he(name, derivative, gain=gain, lower=lower, dead_values=(0.0,) if negative_slope == 0 else ())


def _rrelu(lower: float = 1 / 8, upper: float = 1 / 3, *_: Any, **__: Any) -> Activation | None:
    # random in training: the mean slope, which evaluation uses, is its expectation
    return _leaky_relu((lower + upper) / 2, "rrelu")


def _prelu(weight: nn.Module | Tensor, initial_slope: float = 0.25) -> Activation:
    derivative = partial(derivatives.prelu_slope, weight if isinstance(weight, nn.Module) else weight.detach())
    return Activation("prelu", derivative, init="he", gain=calculate_gain("leaky_relu", initial_slope), places=PLACES)


@_fixed
def _elu(alpha: float = 1.0, input_scale: float = 1.0, name: str = "elu") -> Activation:
    derivative = partial(derivatives.elu_slope, alpha=alpha, scale=1.0, input_scale=input_scale)
    dead_values = (0.0,) if alpha == 0 else ()
    return _he(name, derivative, unit=1 / input_scale, lower=min(-alpha, 0.0), dead_values=dead_values)


def _celu(alpha: float = 1.0) -> Activation | None:
    return _elu(alpha, 1 / alpha, "celu")


@_fixed
def _selu() -> Activation:
    # LeCun with gain 1 is what makes it self-normalising (Klambauer et al. 2017); calculate_gain's 3/4 gives that up
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    derivative = partial(derivatives.elu_slope, alpha=alpha, scale=scale, input_scale=1.0)
    return _activation("selu", derivative, lower=-alpha * scale, init="lecun")


@_fixed
def _gelu(approximate: str = "none") -> Activation:
    derivative = partial(derivatives.aten, "gelu_backward", approximate=approximate)
    name, lower = ("gelu_tanh", -0.170040750571) if approximate == "tanh" else ("gelu", -0.169971207479)
    return _he(name, derivative, lower=lower)


_gelu_tanh = partial(_gelu, "tanh")


@_fixed
def _clipped_gelu(minimum: float, maximum: float) -> Activation:
    derivative = partial(derivatives.clipped_gelu_slope, minimum=minimum, maximum=maximum)
    lower, upper = max(float(minimum), -0.169971207479), float(maximum)
    dead_values = (lower, upper) if lower == minimum else (upper,)
    return _he("clipped_gelu", derivative, lower=lower, upper=upper, dead_values=dead_values)


def _swish(module: nn.Module) -> Activation | None:
    return None if next(module.parameters(), None) is not None else _silu()  # a learned beta is not SiLU


@_fixed
def _softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    derivative = partial(derivatives.aten, "softplus_backward", beta=beta, threshold=threshold)
    return _he("softplus", derivative, unit=1 / beta, lower=0.0)


@_fixed
def _hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    ends = (float(min_val), float(max_val))
    derivative = partial(derivatives.aten, "hardtanh_backward", min_val=ends[0], max_val=ends[1])
    build = _he if min_val == 0 else _activation  # from 0 on, it is a capped ReLU
    name = "relu6" if ends == (0.0, 6.0) else "hardtanh"
    return build(name, derivative, lower=ends[0], upper=ends[1], dead_values=ends, tails=ends, peak=1.0)


_relu6 = partial(_hardtanh, 0.0, 6.0)


@_fixed
def _shrink(name: str, lambd: float = 0.5) -> Activation:
    # dead in the middle, not at an end: the rule on dead neurons applies all the same
    return _activation(name, partial(derivatives.aten, f"{name}_backward", lambd=lambd), dead_values=(0.0,))


@_fixed
def _threshold(threshold: float, value: float) -> Activation:
    derivative = partial(derivatives.aten, "threshold_backward", threshold=threshold)
    lower, tails = float(min(threshold, value)), (float(threshold), math.inf)
    return _he("threshold", derivative, lower=lower, dead_values=(float(value),), tails=tails, peak=1.0)


def _clamp(min: Any = None, max: Any = None) -> Activation | None:
    # autograd lets the gradient through at exactly 0, unlike ReLU
    return _relu() if isinstance(min, (int, float)) and min == 0 and max is None else None


IDENTITY = Activation("identity", torch.ones_like, init="lecun", linear=True)
"""For a layer that no activation follows; LeCun's initialisation keeps its forward variance."""
HEADS = Activation("attention", torch.ones_like, dead_values=(0.0,), linear=True)
"""For the heads of attention: one that gives exactly 0, update after update, has no values any more."""


def _of(factory: _Factory, attributes: str) -> _Factory:
    return partial(_from_attributes, factory, attributes.split())


def _from_attributes(factory: _Factory, attributes: Sequence[str], module: nn.Module) -> Activation | None:
    return factory(*(getattr(module, name) for name in attributes))


# factory, name of the functions, class of the module, its attributes that are the factory's parameters
_TORCH: tuple[tuple[_Factory, str, type[nn.Module], str], ...] = (
    (_relu, "relu", nn.ReLU, ""),
    (_relu6, "relu6", nn.ReLU6, ""),
    (_leaky_relu, "leaky_relu", nn.LeakyReLU, "negative_slope"),
    (_rrelu, "rrelu", nn.RReLU, "lower upper"),
    (_elu, "elu", nn.ELU, "alpha"),
    (_celu, "celu", nn.CELU, "alpha"),
    (_selu, "selu", nn.SELU, ""),
    (_gelu, "gelu", nn.GELU, "approximate"),
    (_silu, "silu", nn.SiLU, ""),
    (_mish, "mish", nn.Mish, ""),
    (_softplus, "softplus", nn.Softplus, "beta threshold"),
    (_tanh, "tanh", nn.Tanh, ""),
    (_sigmoid, "sigmoid", nn.Sigmoid, ""),
    (_log_sigmoid, "logsigmoid", nn.LogSigmoid, ""),
    (_softsign, "softsign", nn.Softsign, ""),
    (_hardtanh, "hardtanh", nn.Hardtanh, "min_val max_val"),
    (_hardsigmoid, "hardsigmoid", nn.Hardsigmoid, ""),
    (_hardswish, "hardswish", nn.Hardswish, ""),
    (partial(_shrink, "hardshrink"), "hardshrink", nn.Hardshrink, "lambd"),
    (partial(_shrink, "softshrink"), "softshrink", nn.Softshrink, "lambd"),
    (_threshold, "threshold", nn.Threshold, "threshold value"),
)

# classes of Hugging Face transformers, timm and CLIP
_CLASSES: tuple[tuple[_Factory, str], ...] = (
    (_of(_gelu, ""), "GELUActivation"),
    (
        _of(_gelu_tanh, ""),
        "NewGELUActivation NewGELU FastGELUActivation AccurateGELUActivation PytorchGELUTanh GELUTanh",
    ),
    (_of(_quick_gelu, ""), "QuickGELUActivation QuickGELU"),
    (_of(_clipped_gelu, "min max"), "ClippedGELUActivation"),
    (_of(_silu, ""), "SiLUActivation"),
    (_swish, "Swish"),
    (_of(_mish, ""), "MishActivation"),
    (_of(_relu_squared, ""), "ReLUSquaredActivation"),
    (_of(_hardswish, ""), "HardSwish"),
    (_of(_hardsigmoid, ""), "HardSigmoid"),
)

_MODULES: dict[type[nn.Module] | str, _Factory] = {nn.PReLU: lambda module: _prelu(module, module.init)}
_MODULES |= {module: _of(factory, attributes) for factory, _, module, attributes in _TORCH}
_MODULES |= {name: factory for factory, names in _CLASSES for name in names.split()}

_NAMES = {name: factory for factory, name, *_ in _TORCH} | {"prelu": _prelu, "sin": _sine}
_NAMES |= dict.fromkeys(("clamp", "clamp_min", "clip"), _clamp)

_FUNCTIONS: dict[Callable[..., Any], _Factory] = {torch.special.expit: _sigmoid} | {
    getattr(namespace, name + suffix): factory
    for name, factory in _NAMES.items()
    for namespace in (F, torch, Tensor)
    for suffix in ("", "_")
    if hasattr(namespace, name + suffix)
}


def from_module(module: nn.Module) -> Activation | None:
    """The activation function that a module computes, or None if it is none that we know.

    Known are torch's elementwise activations, and those of Hugging Face, timm and CLIP by the names of their classes;
    subclasses too, unless they override `forward`. A PReLU's derivative reads the slopes at the time of the call.
    """
    kind: Any = type(module)
    for base in kind.__mro__:
        factory = _MODULES.get(base) or _MODULES.get(base.__name__)
        if factory is not None:
            return factory(module) if kind.forward is base.forward else None
    return None


def from_function(
    function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Activation | None:
    """The activation function of one call, as a `torch.overrides.TorchFunctionMode` sees it, or None.

    Args:
        function: What the mode sees: `F.gelu`, `torch.tanh`, `torch.Tensor.relu_`, ...
        args: Positional arguments, first the input (if it is not in `kwargs`).
        kwargs: Keyword arguments.
    """
    factory = _FUNCTIONS.get(function)
    if factory is None:
        return None
    named = {name: value for name, value in (kwargs or {}).items() if name not in ("input", "self", "inplace", "out")}
    return factory(*args[1:], **named)


def register(target: type[nn.Module] | str | Callable[..., Any], factory: _Factory) -> None:
    """Make an activation function known, or replace one.

    Args:
        target: A module's class, the name of one, or a function as a `TorchFunctionMode` sees it.
        factory: Returns the Activation, or None if there is none: of the module (class or name), or of the call's
            arguments after the input, without `inplace` and `out` (function).
    """
    if isinstance(target, str) or (isinstance(target, type) and issubclass(target, nn.Module)):
        _MODULES[target] = factory
    else:
        _FUNCTIONS[target] = factory
