"""Which weight a layer has, and what it is where a module computes it anew in each forward."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lightning_neurohealth.layers import Layer, clean_name, is_owner
from lightning_neurohealth.origins import CONVOLUTIONS


def know_weight(
    layer: Layer, owner: str, module: nn.Module | None, names: dict[int, str], applied: tuple[Tensor, str] | None = None
) -> None:
    """Note the weight of ``layer``: its name (of tied ones the first), along which axis its neurons lie, its fans.

    The name is that of the parameter which is trained: where a module computes its weight, the one of the same shape.

    Args:
        layer: What is to know it.
        owner: Path of its owner.
        module: The owner.
        names: Names of all parameters by their id.
        applied: Where a plain function applies a parameter of the owner: which, and the function's name.
    """
    if module is None:
        return
    if applied is not None:
        weight, axis = applied[0], _applied_axis(*applied)
        layer.weight = names.get(id(weight))
    else:
        own = {clean_name(n): p for n, p in module.named_parameters() if not is_lazy(p) and p.dim() >= 2}
        if not own:
            return
        computed = computed_weight(module)
        like = [n for n, p in own.items() if computed is not None and p.shape == computed.shape]
        name = next(n for n in ("weight", *like, *own) if n in own)
        weight, axis = own[name] if computed is None else computed, _axis(module, own[name])
        layer.weight = names.get(id(own[name]), f"{owner}.{name}" if owner else name)
    if axis is not None and weight.shape[axis] == layer.neurons:
        layer.weight_axis = axis
        layer.fan_in = weight.numel() // layer.neurons
        layer.fan_out = layer.neurons * math.prod(weight.shape[2:])


def computed_weight(module: nn.Module) -> Tensor | None:
    """The weight that ``module``, an owner, computes from parameters at each forward; ``None`` where it is one itself.

    Knows torch's parametrizations, and the older weight norm, spectral norm and pruning masks. Nothing is changed: a
    spectral norm takes no step of its power iteration.
    """
    if "weight" in module._parameters or not is_owner(module):
        return None
    with torch.no_grad(), torch._C.DisableTorchFunction():
        if is_parametrized(module, "weight"):
            chain: Any = module.parametrizations
            return _in_evaluation(chain.weight)
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm) and hook.name == "weight":
                return _tensor(hook.compute_weight(module))
            if isinstance(hook, SpectralNorm) and hook.name == "weight":
                return _tensor(hook.compute_weight(module, do_power_iteration=False))
            if isinstance(hook, BasePruningMethod) and hook._tensor_name == "weight":
                return _tensor(hook.apply_mask(module))
    return None


def _in_evaluation(chain: nn.Module) -> Tensor | None:
    """What a parametrization gives without the updates that training makes; a cache of the user's stays as it is."""
    training = [module for module in chain.modules() if module.training]
    try:
        for module in training:
            module.training = False
        return _tensor(chain())
    finally:
        for module in training:
            module.training = True


def _tensor(value: Any) -> Tensor | None:
    return value.detach() if isinstance(value, Tensor) else None


def _axis(module: nn.Module, weight: Tensor) -> int | None:
    if isinstance(module, nn.RNNBase):
        return None  # a neuron reads by two matrices, and gates of an LSTM or GRU by several rows of each
    swapped = (type(module).__name__ == "Conv1D" and weight.dim() == 2) or getattr(module, "transposed", False)
    return 1 if swapped else 0


def _applied_axis(weight: Tensor, function: str) -> int | None:
    if function == "linear" or function in CONVOLUTIONS:
        return 1 if "transpose" in function else 0
    return 1 if weight.dim() == 2 else None
