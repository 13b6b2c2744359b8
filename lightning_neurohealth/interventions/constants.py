"""Neurons that always say the same: their readers need not listen, if their biases take it over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth.interventions.cutting import inputs_of
from lightning_neurohealth.interventions.wiring import Wiring, axis_of

ROWS = 8
"""On fewer anything may look constant."""
TOLERANCE = 1e-5
"""Largest spread of a constant, relative to its size."""


def constants(model: nn.Module, readers: Iterable[str], run: Callable[[], Any]) -> dict[str, Tensor]:
    """Module to what it always reads from each of its inputs during ``run``, ``[inputs]``; 0 where that varies."""
    seen: dict[str, tuple[Tensor, Tensor, int]] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(partial(_look, seen, name))
        for name in dict.fromkeys(readers)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, (low, high, rows) in seen.items():
        middle = (low + high) / 2
        steady = (high - low <= TOLERANCE * middle.abs()) & middle.isfinite()
        found[name] = middle.where(steady, 0.0) if rows >= ROWS else torch.zeros_like(middle)
    return found


def uneven(module: nn.Module) -> str:
    """Why a constant input adds different numbers at different places, if it does."""
    if not isinstance(module, nn.modules.conv._ConvNd):
        return ""
    if module.transposed:
        even = all(size == 1 for size in module.kernel_size) and all(step == 1 for step in module.stride)
        return "" if even else "is a transposed convolution"
    padded = module.padding != "valid" and (isinstance(module.padding, str) or any(module.padding))
    return "pads it with zeros" if padded and module.padding_mode == "zeros" else ""


def not_foldable(
    wiring: Wiring,
    masks: Mapping[str, Tensor],
    always: Mapping[str, Tensor],
    obstacle: Callable[[nn.Module], str] = uneven,
) -> dict[str, str]:
    """Modules of masked neurons whose constant a reader cannot take over, with the reason, which ``obstacle`` knows."""
    reasons = {}
    for owner, mask in masks.items():
        for reader, inner in wiring[owner].readers.items():
            why = obstacle(wiring.finder.modules[reader])
            if why and reader in always and bool(always[reader][inputs_of(mask, inner)].any()):
                reasons[owner] = f"neurons of it are constant at other than 0, and {reader} {why}"
    return reasons


def said(wiring: Wiring, masks: Mapping[str, Tensor], always: Mapping[str, Tensor]) -> dict[str, tuple[int, Tensor]]:
    """Reader to how many of its masked inputs always say the same, not 0, and what they add to its pre-activations,
    ``[neurons]``; only readers of which there is one."""
    gone = {
        reader: inputs_of(mask, inner)
        for owner, mask in masks.items()
        for reader, inner in wiring[owner].readers.items()
    }
    found = {}
    for reader, mask in gone.items():
        if reader not in always:
            continue
        values = always[reader] * mask.to(always[reader].device)
        if not values.any():
            continue
        module = wiring.finder.modules[reader]
        weight = module.weight
        assert isinstance(weight, Tensor)
        taps = weight.detach().double().flatten(2).sum(2) if weight.dim() > 2 else weight.detach().double()
        added = taps @ values if axis_of(module, incoming=True) == 1 else values @ taps
        found[reader] = int(values.count_nonzero()), added.to(weight.dtype)
    return found


def fold(wiring: Wiring, masks: Mapping[str, Tensor], always: Mapping[str, Tensor]) -> dict[str, int]:
    """Add what masked neurons always say to the biases of their readers; reader to how many inputs were."""
    folded = {}
    for reader, (count, added) in said(wiring, masks, always).items():
        folded[reader] = count
        module = wiring.finder.modules[reader]
        if isinstance(module.bias, nn.Parameter):
            module.bias.detach().add_(added)
        else:
            module.bias = nn.Parameter(added, module.weight.requires_grad)
    return folded


def _look(seen: dict[str, tuple[Tensor, Tensor, int]], name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
    if not args or not isinstance(args[0], Tensor):
        return
    x, convolution = args[0].detach(), isinstance(module, nn.modules.conv._ConvNd)
    axis = x.dim() - module.weight.dim() + 1 if convolution else -1  # type: ignore[operator]
    rows = x.movedim(axis, -1).flatten(0, -2).double() if x.dim() > 1 else x[None].double()
    low, high = rows.amin(0), rows.amax(0)
    seen[name] = low, high, len(rows)  # a reader runs once, or its writers are not cut
