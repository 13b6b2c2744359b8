"""Activations that we know, each with torch's own function, and what tests ask of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_neurohealth.activations import Activation, from_function, from_module
from tests.activations.lookalikes import (
    AccurateGELUActivation,
    ClippedGELUActivation,
    FastGELUActivation,
    GELUActivation,
    GELUTanh,
    HardSigmoid,
    HardSwish,
    MishActivation,
    NewGELUActivation,
    PytorchGELUTanh,
    QuickGELU,
    QuickGELUActivation,
    ReLUSquaredActivation,
    SiLUActivation,
    Swish,
)

INF = math.inf
Function = Callable[[Tensor], Tensor]
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
