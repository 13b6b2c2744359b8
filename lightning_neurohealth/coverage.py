"""What of a model is watched, and what is not and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_neurohealth import activations
from lightning_neurohealth.holdings import MATRICES, module_of
from lightning_neurohealth.layers import COLLECTIONS, ROOT, is_owner
from lightning_neurohealth.tracing.finder import LayerFinder
from lightning_neurohealth.tracing.heads import heads_name

SINGLE_ONLY = {"mps"}
"""Devices without float64."""


@dataclass(frozen=True)
class Coverage:
    """What was watched, and what was not and why.

    Attributes:
        watched: Layers, in the order of execution.
        missed: Names of modules and measures that could not be seen, each with the reason.
        parameters: Share of the model's parameters that belong to watched layers.
        shares: The share of each kind of parameters, watched or not and why, which add up to 1.
        elsewhere: Names of modules with parameters of no watched layer, such as norms, each with the reason.
        unfed: Those among ``missed`` that are measures of which nothing came, such as a loss that is not logged.
    """

    watched: tuple[str, ...] = ()
    missed: Mapping[str, str] = field(default_factory=dict)
    parameters: float = 0.0
    unfed: frozenset[str] = frozenset()
    shares: Mapping[str, float] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def unwatched(self) -> dict[str, str]:
        """What of the model is among ``missed``."""
        return {name: why for name, why in self.missed.items() if name not in self.unfed}


def silent_modules(finder: LayerFinder, called: set[str]) -> dict[str, str]:
    """Modules with matrices of their own whose neurons are not watched, and norms and the like that nobody calls.

    Each has its reason.
    """
    owners = {layer.owner for layer in finder.layers.values()}
    silent: dict[str, str] = {}
    for name, module in finder.modules.items():
        if not module._parameters or module_of(name) in owners or name in finder.unknown:
            continue
        own = {n: p for n, p in module.named_parameters(recurse=False) if not is_lazy(p)}
        matrices = [n for n, p in own.items() if p.dim() >= 2]
        if not matrices:
            holder = type(module).forward is nn.Module.forward or any(True for _ in module.children())
            if own and name and name not in called and not (holder or isinstance(module, torch.jit.ScriptModule)):
                silent[name] = "never called"
        elif not is_owner(module):
            silent[name or ROOT] = f"{type(module).__name__}: the neurons of {', '.join(matrices)} {MATRICES}"
        elif name not in called:
            silent[name or ROOT] = "never called"
    return silent


def check_device(model: nn.Module) -> None:
    """Refuse a device on which nothing can be counted."""
    where = next((p.device.type for p in model.parameters() if p.device.type in SINGLE_ONLY), None)
    if where is not None:
        raise ValueError(
            f"{type(model).__name__} is on {where}, which has no double precision: sums over many rows would be wrong "
            "there. Train on another device, such as Trainer(accelerator='cpu'), or leave NeuronHealth out"
        )


def check_watchable(model: nn.Module, finder: LayerFinder) -> None:
    """Refuse patterns that match nothing, and a model in which nothing can be watched.

    Matrices that a module of the user's own holds may be weights that it applies by plain functions; only the first
    measured step tells. Those that torch's own modules hold beside their layers never are.
    """
    modules = {name or ROOT: module for name, module in finder.modules.items()}
    watchable = [
        name
        for name, module in modules.items()
        if is_owner(module) or activations.from_module(module) is not None or _holds_weights(module)
    ]
    some = ", ".join(watchable[:8]) + (", …" if len(watchable) > 8 else "")
    names = modules.keys() if ROOT in watchable else modules.keys() - {ROOT}
    holders = {name for name, module in modules.items() if any(True for _ in module.children())}
    unmatched = finder.patterns.unmatched(names | {heads_name(name) for name in holders})  # which may be attention
    if unmatched:
        raise ValueError(
            f"include/exclude: {', '.join(map(repr, unmatched))} matches no module of {type(model).__name__}; "
            f"there are {some or 'none that can be watched'}"
        )
    if not any(finder.patterns.wanted(name) for name in watchable):
        raise ValueError(
            f"{type(model).__name__} has no layer to watch: "
            + (
                f"include and exclude leave none of {some}"
                if watchable
                else "ScriptModules take no hooks"
                if any(isinstance(module, torch.jit.ScriptModule) for module in modules.values())
                else "it has no Linear, convolution, recurrent, embedding or activation module, and no module of your "
                "own with a weight matrix that a function such as F.linear could apply"
            )
        )


def _holds_weights(module: nn.Module) -> bool:
    of_user = not type(module).__module__.startswith("torch.") or isinstance(module, COLLECTIONS)
    return of_user and any(not is_lazy(p) and p.dim() >= 2 for p in module.parameters(recurse=False))
