"""Which weight a layer has, and what it is where a module computes it anew in each forward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lightning_neurohealth.layers import EMBEDDINGS, RECURRENT, Layer, clean_name, is_owner
from lightning_neurohealth.sharding import Part, is_split, part_of
from lightning_neurohealth.tracing.origins import CONVOLUTIONS

LEFT_PRODUCTS = {"matmul", "__matmul__", "mm", "bmm"}
"""Products whose first factor can be the weight: its rows are the neurons then."""


def know_weight(
    layer: Layer, owner: str, module: nn.Module | None, names: dict[int, str], applied: Applied | None = None
) -> None:
    """Note the weight of ``layer``: its name (of tied ones the first), along which axis its neurons lie, its fans.

    The name is that of the parameter which is trained: where a module computes its weight, the one of the same shape.

    Args:
        layer: What is to know it.
        owner: Path of its owner.
        module: The owner.
        names: Names of all parameters by their id.
        applied: Where a plain function applies a parameter of the owner.
    """
    if module is None or (applied is None and isinstance(module, EMBEDDINGS)):
        return
    if applied is not None:
        weight, axis = applied.parameter, applied.axis
        layer.weight = names.get(id(weight))
    else:
        own: dict[str, Tensor] = {
            clean_name(n): p for n, p in module.named_parameters() if not is_lazy(p) and p.dim() >= 2
        }
        own = own or _gathered(module, owner, names)
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


def _gathered(module: nn.Module, owner: str, names: dict[int, str]) -> dict[str, Tensor]:
    """The weight of a module that has a view of it in place of the parameter, as FSDP1 leaves it during a forward."""
    weight = vars(module).get("weight")
    if isinstance(weight, Tensor) and weight.dim() >= 2 and f"{owner}.weight" in names.values():
        return {"weight": weight}
    return {}


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
    if isinstance(module, RECURRENT):
        return None  # a neuron reads by two matrices, and gates of an LSTM or GRU by several rows of each
    swapped = (type(module).__name__ == "Conv1D" and weight.dim() == 2) or getattr(module, "transposed", False)
    return 1 if swapped else 0


def shared_neurons(module: nn.Module, width: int) -> Part | None:
    """Which neurons the ``width`` are that an owner gives here, where ranks share those of its weight."""
    weight = module._parameters.get("weight")
    axis = _axis(module, weight) if weight is not None and is_split(weight) else None
    part = None if weight is None or axis is None else part_of(weight, axis)
    return part if part is not None and part.width == width < part.of else None


@dataclass(frozen=True)
class Applied:
    """A parameter that a plain function applies.

    Attributes:
        parameter: Which.
        axis: Along which of its axes the neurons lie, ``None`` where that is not known.
        out_axis: Where they lie in what the function gives.
        inputs: What it is applied to.
    """

    parameter: Tensor
    axis: int | None
    out_axis: int
    inputs: tuple[Tensor, ...]


def applied_weight(
    function: str, tensors: list[Tensor], out: Tensor, parameter_of: Callable[[Tensor], Tensor | None]
) -> Applied | None:
    """The weight among the ``tensors`` of a product or convolution, beside data; a product of two weights is no layer.

    ``parameter_of`` gives the parameter with two axes or more that a tensor is, views or is computed from.
    """
    parameters = [parameter_of(t) for t in tensors]
    data = [t for t, p in zip(tensors, parameters, strict=True) if p is None and not isinstance(t, nn.Parameter)]
    place = next((i for i, parameter in enumerate(parameters) if parameter is not None), None)
    if place is None or not data:
        return None
    used, parameter = tensors[place], parameters[place]
    assert parameter is not None
    if function in CONVOLUTIONS:
        of_used, out_axis = int("transpose" in function), 1 if out.dim() > 2 else out.dim() - 1
    elif function == "linear":
        of_used, out_axis = 0, out.dim() - 1
    elif place == 0 and len(tensors) == 2 and function in LEFT_PRODUCTS and out.dim() >= 2:
        of_used, out_axis = used.dim() - 2, out.dim() - 2
    else:
        of_used, out_axis = used.dim() - 1, out.dim() - 1
    known = function in CONVOLUTIONS or used.dim() == 2
    return Applied(parameter, _axis_in(parameter, used, of_used) if known else None, out_axis, tuple(data))


def _axis_in(parameter: Tensor, view: Tensor, axis: int) -> int | None:
    """The axis of ``parameter`` that ``axis`` of a view of it runs along."""
    if view is parameter:
        return axis
    step = view.stride(axis), view.shape[axis]
    return next((i for i in range(parameter.dim()) if (parameter.stride(i), parameter.shape[i]) == step), None)
