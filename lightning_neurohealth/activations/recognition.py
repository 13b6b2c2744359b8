"""Recognises an activation function in a running network, by the module or the function that is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth.activations import known
from lightning_neurohealth.activations.activation import Activation
from lightning_neurohealth.activations.known import Factory


def _of(factory: Factory, attributes: str) -> Factory:
    return partial(_from_attributes, factory, attributes.split())


def _from_attributes(factory: Factory, attributes: Sequence[str], module: nn.Module) -> Activation | None:
    return factory(*(getattr(module, name) for name in attributes))


# factory, name of the functions, class of the module, its attributes that are the factory's parameters
_TORCH: tuple[tuple[Factory, str, type[nn.Module], str], ...] = (
    (known.relu, "relu", nn.ReLU, ""),
    (known.relu6, "relu6", nn.ReLU6, ""),
    (known.leaky_relu, "leaky_relu", nn.LeakyReLU, "negative_slope"),
    (known.rrelu, "rrelu", nn.RReLU, "lower upper"),
    (known.elu, "elu", nn.ELU, "alpha"),
    (known.celu, "celu", nn.CELU, "alpha"),
    (known.selu, "selu", nn.SELU, ""),
    (known.gelu, "gelu", nn.GELU, "approximate"),
    (known.silu, "silu", nn.SiLU, ""),
    (known.mish, "mish", nn.Mish, ""),
    (known.softplus, "softplus", nn.Softplus, "beta threshold"),
    (known.tanh, "tanh", nn.Tanh, ""),
    (known.sigmoid, "sigmoid", nn.Sigmoid, ""),
    (known.log_sigmoid, "logsigmoid", nn.LogSigmoid, ""),
    (known.softsign, "softsign", nn.Softsign, ""),
    (known.hardtanh, "hardtanh", nn.Hardtanh, "min_val max_val"),
    (known.hardsigmoid, "hardsigmoid", nn.Hardsigmoid, ""),
    (known.hardswish, "hardswish", nn.Hardswish, ""),
    (partial(known.shrink, "hardshrink"), "hardshrink", nn.Hardshrink, "lambd"),
    (partial(known.shrink, "softshrink"), "softshrink", nn.Softshrink, "lambd"),
    (known.threshold, "threshold", nn.Threshold, "threshold value"),
)

# classes of Hugging Face transformers, timm and CLIP
_CLASSES: tuple[tuple[Factory, str], ...] = (
    (_of(known.gelu, ""), "GELUActivation"),
    (
        _of(known.gelu_tanh, ""),
        "NewGELUActivation NewGELU FastGELUActivation AccurateGELUActivation PytorchGELUTanh GELUTanh",
    ),
    (_of(known.quick_gelu, ""), "QuickGELUActivation QuickGELU"),
    (_of(known.clipped_gelu, "min max"), "ClippedGELUActivation"),
    (_of(known.silu, ""), "SiLUActivation"),
    (known.swish, "Swish"),
    (_of(known.mish, ""), "MishActivation"),
    (_of(known.relu_squared, ""), "ReLUSquaredActivation"),
    (_of(known.hardswish, ""), "HardSwish"),
    (_of(known.hardsigmoid, ""), "HardSigmoid"),
)

_MODULES: dict[type[nn.Module] | str, Factory] = {nn.PReLU: lambda module: known.prelu(module, module.init)}
_MODULES |= {module: _of(factory, attributes) for factory, _, module, attributes in _TORCH}
_MODULES |= {name: factory for factory, names in _CLASSES for name in names.split()}

_NAMES = {name: factory for factory, name, *_ in _TORCH} | {"prelu": known.prelu, "sin": known.sine}
_NAMES |= dict.fromkeys(("clamp", "clamp_min", "clip"), known.clamp)

_FUNCTIONS: dict[Callable[..., Any], Factory] = {torch.special.expit: known.sigmoid} | {
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


def register(target: type[nn.Module] | str | Callable[..., Any], factory: Factory) -> None:
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
