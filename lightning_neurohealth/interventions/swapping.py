"""Swapping: another activation in the place of one that makes neurons die."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lightning_neurohealth import activations
from lightning_neurohealth.interventions.looking import look
from lightning_neurohealth.interventions.sample import call, sample_for
from lightning_neurohealth.interventions.untouched import device_of, untouched
from lightning_neurohealth.layers import clean_name
from lightning_neurohealth.taps import Taps

HOOKS = (
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
New = nn.Module | type[nn.Module] | Callable[[], nn.Module]


def swap_activation(
    model: nn.Module, old: type[nn.Module] | tuple[type[nn.Module], ...], new: New, *, sample: Any = None
) -> list[str]:
    """Put another activation in the place of every module of a class: ``swap_activation(net, nn.ReLU, nn.GELU)``.

    Each place keeps its name, its hooks, its training flag and, where both have one, its ``inplace``; a module that is
    used in several places stays one. Parameters of the new ones are put where the model's are. Swap before the
    optimizer is made, which would not know them.

    Args:
        model: Changed in place, all places or none.
        old: Class of the activations to replace, or several.
        new: A module, of which every place gets a copy, or a class, or anything that makes one when called.
        sample: Input of one forward (a tensor, arguments, or keywords), in which it is seen how many channels a PReLU
            of one slope gets slopes for; they must lie on axis 1 and be of one number. ``None`` for the model's
            ``example_input_array``, or numbers made up for its first layer; where it runs on neither, one slope stays.

    Returns:
        Names of the places.

    Raises:
        TypeError: ``old`` is no class of modules, or ``new`` makes none.
        ValueError: The model has no such module.
    """
    kinds = old if isinstance(old, tuple) else (old,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in kinds):
        raise TypeError(f"old={old!r}: must be a class of modules, e.g. nn.ReLU")
    device = device_of(model)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    places = [
        (parent, child, clean_name(f"{path}.{child}" if path else child), module)
        for path, parent in model.named_modules()
        for child, module in parent._modules.items()
        if isinstance(module, kinds)
    ]
    if not places:
        raise ValueError(_nothing_to_swap(model, kinds))
    made = {module: _made(new) for module in dict.fromkeys(module for *_, module in places)}
    if any(_sizeable(module) for module in made.values()):
        for module, channels in _channels(model, sample, {name: module for *_, name, module in places}).items():
            made[module] = _sized(made[module], channels)
    made = {module: _like(twin, module).to(device=device, dtype=dtype) for module, twin in made.items()}
    for parent, child, _, module in places:
        parent._modules[child] = made[module]
    return [name for *_, name, _ in places]


def _made(new: New) -> nn.Module:
    module = copy.deepcopy(new) if isinstance(new, nn.Module) else new() if callable(new) else new
    if not isinstance(module, nn.Module):
        raise TypeError(f"new={new!r}: must be a module, or make one when called, e.g. nn.LeakyReLU(0.01)")
    return module


def _sizeable(module: nn.Module) -> bool:
    return type(module) is nn.PReLU and module.num_parameters == 1


def _sized(module: nn.Module, channels: int) -> nn.Module:
    return nn.PReLU(channels, init=next(module.parameters()).item()) if _sizeable(module) else module


def _like(module: nn.Module, old: nn.Module) -> nn.Module:
    if hasattr(module, "inplace") and hasattr(old, "inplace"):
        module.inplace = old.inplace
    for name in HOOKS:
        if name in vars(old):
            object.__setattr__(module, name, vars(old)[name])
    module.train(old.training)
    return module


def _channels(model: nn.Module, sample: Any, modules: dict[str, nn.Module]) -> dict[nn.Module, int]:
    """How many channels each module sees, where they lie on axis 1 and it is always the same number."""
    try:
        sample = sample_for(model, sample)
    except ValueError:
        return {}
    shapes: dict[nn.Module, set[tuple[int, int]]] = {}
    handles = []
    for module in dict.fromkeys(modules.values()):
        seen = shapes.setdefault(module, set())
        handles.append(module.register_forward_pre_hook(lambda m, i, seen=seen: seen.add((i[0].dim(), i[0].shape[1]))))
    try:
        with untouched(model, training=False), torch.no_grad():
            taps = look(model, lambda: call(model, sample), Taps)
    finally:
        for handle in handles:
            handle.remove()
    layers = {layer.activation: layer for layer in taps.finder.ordered()}
    found: dict[nn.Module, int] = {}
    for name, module in modules.items():
        layer, seen = layers.get(name), shapes[module]
        if layer is not None and len(seen) == 1:
            ((dims, width),) = seen
            if width == layer.neurons and layer.axis % dims == 1:
                found[module] = width
    return found


def _nothing_to_swap(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> str:
    there = sorted({type(m).__name__ for m in model.modules() if activations.from_module(m) is not None})
    names = " or ".join(kind.__name__ for kind in kinds)
    return (
        f"{type(model).__name__} has no module of {names}; its activation modules are {', '.join(there) or 'none'}. "
        "Activations that are called as functions (F.relu) can only be changed in its code"
    )
