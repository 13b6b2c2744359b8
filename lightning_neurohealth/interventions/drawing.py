"""Draws weights that keep variances, for the activation that follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_neurohealth.activations import Activation
from lightning_neurohealth.interventions.wiring import axis_of


def drawn(module: nn.Module, function: Activation, generator: torch.Generator) -> Tensor:
    """Fresh weights for a module, in the shape of its weight, drawn on the CPU in single precision or more.

    He for ReLU and its like (gain / √fan-in), Xavier for functions with two tails (gain · √(2 / (fan-in + fan-out))),
    LeCun for SELU and for no activation (1 / √fan-in), normally distributed, with the gain of torch.nn.init.

    Sources: He et al. (2015), Glorot and Bengio (2010), LeCun et al. (1998).
    """
    weight = module.weight
    assert isinstance(weight, Tensor)
    swapped = axis_of(module) == 1
    dtype = torch.promote_types(weight.dtype, torch.float32)
    shape = (weight.shape[1], weight.shape[0], *weight.shape[2:]) if swapped else tuple(weight.shape)
    fresh = torch.empty(shape, dtype=dtype)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(fresh)
    fan = (fan_in + fan_out) / 2 if function.init == "xavier" else fan_in
    nn.init.normal_(fresh, std=function.gain / max(fan, 1) ** 0.5, generator=generator)
    return fresh.transpose(0, 1).contiguous() if swapped else fresh
