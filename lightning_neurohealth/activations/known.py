"""The activation functions that are known, each by a factory: the parameters of one call to an Activation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.init import calculate_gain

from lightning_neurohealth.activations import derivatives
from lightning_neurohealth.activations.activation import PLACES, Activation

Factory = Callable[..., Activation | None]
"""The parameters of one call, without the input, to the Activation; ``None`` where there is none."""


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


def _fixed(factory: Callable[..., Activation]) -> Factory:
    """One Activation for equal parameters; None if one is a tensor, whose value we may not read."""
    cached = lru_cache(maxsize=256)(factory)

    def build(*parameters: Any, **named: Any) -> Activation | None:
        learned = any(isinstance(value, Tensor) for value in (*parameters, *named.values()))
        return None if learned else cached(*parameters, **named)

    return build


relu = _fixed(partial(_he, "relu", derivatives.relu_slope, dead_values=(0.0,), lower=0.0))
# Primer (So et al. 2021): f' grows without bound, so that tails and peak are ReLU's
_square = partial(_he, "relu_squared", derivatives.relu_squared_slope, tails=(0.0, math.inf), peak=1.0)
relu_squared = _fixed(partial(_square, dead_values=(0.0,), lower=0.0))
silu = _fixed(partial(_he, "silu", partial(derivatives.aten, "silu_backward"), lower=-0.278464542761))
quick_gelu = _fixed(partial(_he, "quick_gelu", derivatives.quick_gelu_slope, lower=-0.278464542761 / 1.702))
mish = _fixed(partial(_he, "mish", partial(derivatives.aten, "mish_backward"), lower=-0.308843413016))
_tanh_known: dict[str, Any] = {"lower": -1.0, "upper": 1.0, "tails": (-2.5, 2.5), "gain": calculate_gain("tanh")}
tanh = _fixed(partial(_activation, "tanh", derivatives.tanh_slope, **_tanh_known))
sigmoid = _fixed(partial(_activation, "sigmoid", derivatives.sigmoid_slope, lower=0.0, upper=1.0, tails=(-5.0, 5.0)))
log_sigmoid = _fixed(partial(_activation, "log_sigmoid", derivatives.log_sigmoid_slope, upper=0.0))
sine = _fixed(partial(Activation, "sine", derivatives.sine_slope, periodic=True))
softsign = _fixed(partial(_activation, "softsign", derivatives.softsign_slope, lower=-1.0, upper=1.0))
_hardsigmoid_slope = partial(derivatives.aten, "hardsigmoid_backward")
_hardsigmoid_known: dict[str, Any] = {"lower": 0.0, "upper": 1.0, "dead_values": (0.0, 1.0)}
hardsigmoid = _fixed(partial(_activation, "hardsigmoid", _hardsigmoid_slope, **_hardsigmoid_known))
_hardswish_slope = partial(derivatives.aten, "hardswish_backward")
_hardswish_known: dict[str, Any] = {"lower": -0.375, "dead_values": (0.0,), "tails": (-3.0, math.inf), "peak": 1.5}
hardswish = _fixed(partial(_he, "hardswish", _hardswish_slope, **_hardswish_known))


@_fixed
def leaky_relu(negative_slope: float = 0.01, name: str = "leaky_relu") -> Activation:
    derivative = partial(derivatives.aten, "leaky_relu_backward", negative_slope=negative_slope, self_is_result=False)
    gain, lower = calculate_gain("leaky_relu", negative_slope), 0.0 if negative_slope <= 0 else None
    return _he(name, derivative, gain=gain, lower=lower, dead_values=(0.0,) if negative_slope == 0 else ())


def rrelu(lower: float = 1 / 8, upper: float = 1 / 3, *_: Any, **__: Any) -> Activation | None:
    # random in training: the mean slope, which evaluation uses, is its expectation
    return leaky_relu((lower + upper) / 2, "rrelu")


def prelu(weight: nn.Module | Tensor, initial_slope: float = 0.25) -> Activation:
    derivative = partial(derivatives.prelu_slope, weight if isinstance(weight, nn.Module) else weight.detach())
    return Activation("prelu", derivative, init="he", gain=calculate_gain("leaky_relu", initial_slope), places=PLACES)


@_fixed
def elu(alpha: float = 1.0, input_scale: float = 1.0, name: str = "elu") -> Activation:
    derivative = partial(derivatives.elu_slope, alpha=alpha, scale=1.0, input_scale=input_scale)
    dead_values = (0.0,) if alpha == 0 else ()
    return _he(name, derivative, unit=1 / input_scale, lower=min(-alpha, 0.0), dead_values=dead_values)


def celu(alpha: float = 1.0) -> Activation | None:
    return elu(alpha, 1 / alpha, "celu")


@_fixed
def selu() -> Activation:
    # LeCun with gain 1 is what makes it self-normalising (Klambauer et al. 2017); calculate_gain's 3/4 gives that up
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    derivative = partial(derivatives.elu_slope, alpha=alpha, scale=scale, input_scale=1.0)
    return _activation("selu", derivative, lower=-alpha * scale, init="lecun")


@_fixed
def gelu(approximate: str = "none") -> Activation:
    derivative = partial(derivatives.aten, "gelu_backward", approximate=approximate)
    name, lower = ("gelu_tanh", -0.170040750571) if approximate == "tanh" else ("gelu", -0.169971207479)
    return _he(name, derivative, lower=lower)


gelu_tanh = partial(gelu, "tanh")


@_fixed
def clipped_gelu(minimum: float, maximum: float) -> Activation:
    derivative = partial(derivatives.clipped_gelu_slope, minimum=minimum, maximum=maximum)
    lower, upper = max(float(minimum), -0.169971207479), float(maximum)
    dead_values = (lower, upper) if lower == minimum else (upper,)
    return _he("clipped_gelu", derivative, lower=lower, upper=upper, dead_values=dead_values)


def swish(module: nn.Module) -> Activation | None:
    return None if next(module.parameters(), None) is not None else silu()  # a learned beta is not SiLU


@_fixed
def softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    derivative = partial(derivatives.aten, "softplus_backward", beta=beta, threshold=threshold)
    return _he("softplus", derivative, unit=1 / beta, lower=0.0)


@_fixed
def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    ends = (float(min_val), float(max_val))
    derivative = partial(derivatives.aten, "hardtanh_backward", min_val=ends[0], max_val=ends[1])
    build = _he if min_val == 0 else _activation  # from 0 on, it is a capped ReLU
    name = "relu6" if ends == (0.0, 6.0) else "hardtanh"
    return build(name, derivative, lower=ends[0], upper=ends[1], dead_values=ends, tails=ends, peak=1.0)


relu6 = partial(hardtanh, 0.0, 6.0)


@_fixed
def shrink(name: str, lambd: float = 0.5) -> Activation:
    # dead in the middle, not at an end: the rule on dead neurons applies all the same
    return _activation(name, partial(derivatives.aten, f"{name}_backward", lambd=lambd), dead_values=(0.0,))


@_fixed
def threshold(threshold: float, value: float) -> Activation:
    derivative = partial(derivatives.aten, "threshold_backward", threshold=threshold)
    lower, tails = float(min(threshold, value)), (float(threshold), math.inf)
    return _he("threshold", derivative, lower=lower, dead_values=(float(value),), tails=tails, peak=1.0)


def clamp(min: Any = None, max: Any = None) -> Activation | None:
    # autograd lets the gradient through at exactly 0, unlike ReLU
    return relu() if isinstance(min, (int, float)) and min == 0 and max is None else None
