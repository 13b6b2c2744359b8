"""What of a model is watched, and what is not and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.nn.parameter import is_lazy

from lightning_neurohealth import activations
from lightning_neurohealth.finder import LayerFinder
from lightning_neurohealth.layers import Layer, is_owner
from lightning_neurohealth.parameters import Parameters


@dataclass(frozen=True)
class Coverage:
    """What was watched, and what was not and why.

    Attributes:
        watched: Layers, in the order of execution.
        missed: Names of modules and measures that could not be seen, each with the reason.
        parameters: Share of the model's parameters that belong to watched layers.
    """

    watched: tuple[str, ...] = ()
    missed: Mapping[str, str] = field(default_factory=dict)
    parameters: float = 0.0


def silent_modules(finder: LayerFinder, called: set[str]) -> dict[str, str]:
    """Modules with matrices of their own whose neurons are not watched, each with the reason."""
    owners = {layer.owner for layer in finder.layers.values()}
    silent: dict[str, str] = {}
    for name, module in finder.modules.items():
        matrices = [n for n, p in module.named_parameters(recurse=False) if not is_lazy(p) and p.dim() >= 2]
        if not matrices or name in owners or name in finder.unknown:
            continue
        if not is_owner(module):
            silent[name] = f"{type(module).__name__}: the neurons of {', '.join(matrices)} are not watched"
        elif isinstance(finder.modules.get(name.rpartition(".")[0]), nn.MultiheadAttention):
            silent[name] = "used inside MultiheadAttention without being called"
        elif name not in called:
            silent[name] = "never called"
    return silent


def watched_share(layers: Iterable[Layer], parameters: Parameters) -> float:
    """Share of all parameters that belong to the owners of watched layers."""
    owners = {layer.owner for layer in layers}
    watched = sum(
        float(size)
        for name, size in zip(parameters.names, parameters.sizes, strict=True)
        if name.rpartition(".")[0] in owners
    )
    return watched / (float(parameters.sizes.sum()) or 1.0)


def check_watchable(model: nn.Module, finder: LayerFinder) -> None:
    """Refuse patterns that match nothing, and a model in which nothing can be watched."""
    watchable = [
        name
        for name, module in finder.modules.items()
        if name and (is_owner(module) or activations.from_module(module) is not None)
    ]
    some = ", ".join(watchable[:8]) + (", …" if len(watchable) > 8 else "")
    unmatched = finder.patterns.unmatched(name for name in finder.modules if name)
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
                else "it has no Linear, convolution or activation module"
            )
        )
