"""f'(z) of each activation function.

They are functions of this module, so that an Activation can be pickled. They run while a ``TorchFunctionMode`` looks
for activations: what would look like one is called as ``torch.ops.aten``, which ``recognition.from_function`` does not
know.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def aten(backward: str, z: Tensor, **parameters: Any) -> Tensor:
    """f'(z) by autograd's own kernel: one pass, exact at kinks, several times cheaper than `torch.where` on CPU."""
    ones = z.clamp(1, 1)  # NaN where z is
    slope: Tensor = getattr(torch.ops.aten, backward).default(ones, z, **parameters)
    return slope * ones  # some kernels turn NaN into 0


def relu_slope(z: Tensor) -> Tensor:
    return z.clamp(0, 1).ceil()  # (z > 0) that keeps NaN and the dtype


def relu_squared_slope(z: Tensor) -> Tensor:
    return 2 * z.clamp(0, math.inf)


def elu_slope(z: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    ones = z.clamp(1, 1)
    slope: Tensor = torch.ops.aten.elu_backward(ones, alpha, scale, input_scale, False, z)
    return slope * ones


def sigmoid_slope(z: Tensor, scale: float = 1.0) -> Tensor:
    # even; on the negative side nothing cancels, so that bfloat16 keeps small slopes
    a: Tensor = torch.ops.aten.sigmoid(-scale * z.abs())
    return torch.addcmul(a, a, a, value=-1)


def tanh_slope(z: Tensor) -> Tensor:
    return 4 * sigmoid_slope(z, 2.0)  # tanh z = 2 sigmoid(2 z) - 1, and sigmoid is the faster kernel


def log_sigmoid_slope(z: Tensor) -> Tensor:
    slope: Tensor = torch.ops.aten.sigmoid(-z)
    return slope


def sine_slope(z: Tensor) -> Tensor:
    slope: Tensor = torch.ops.aten.cos(z)
    return slope


def softsign_slope(z: Tensor) -> Tensor:
    return (z.abs() + 1).reciprocal().square()


def quick_gelu_slope(z: Tensor) -> Tensor:
    return aten("silu_backward", 1.702 * z.clamp(-100, 100))  # clamped: float16 must not overflow


def clipped_gelu_slope(z: Tensor, minimum: float, maximum: float) -> Tensor:
    a: Tensor = torch.ops.aten.gelu(z)
    return aten("gelu_backward", z) * ((a >= minimum) & (a <= maximum))


def prelu_slope(source: nn.Module | Tensor, z: Tensor) -> Tensor:
    weight: Any = source.weight if isinstance(source, nn.Module) else source
    weight = weight.detach().to(z.dtype)
    # slopes that belong to another axis than the neurons': their mean
    weight = weight.reshape(-1, 1) if weight.numel() in (1, z.shape[1]) else weight.mean()
    on = relu_slope(z)
    return torch.addcmul(on, 1 - on, weight)
