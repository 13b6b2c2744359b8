"""Where every parameter of a model stands: whose it is, and why it belongs to no watched layer if it does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import nn

from lightning_neurohealth import activations
from lightning_neurohealth.layers import ROOT, Layer, clean_name
from lightning_neurohealth.parameters import Parameters

WATCHED = "watched"
FROZEN = "watched, and frozen"
NORM = "scale and shift of a norm"
LEARNED = "learned shape of an activation"
VECTOR = "no matrix, so no neurons of its own"
UNUSED = "a matrix that no layer was seen to apply"
MATRICES = "are not watched"
"""The end of what is said of matrices that a module holds and no layer applies."""


def standing(
    layers: Iterable[Layer], parameters: Parameters, missed: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    """What each parameter counts as.

    Args:
        layers: The watched ones.
        parameters: All of the model.
        missed: Modules that could not be seen, each with the reason.

    Returns:
        Reason to its share of all parameters, the watched first and then the largest, which add up to 1; and the name
        of each module that has parameters of no watched layer, with the reason.
    """
    layers = list(layers)
    owners, weights = {layer.owner for layer in layers}, {layer.weight for layer in layers}
    modules = {clean_name(name): module for name, module in parameters.model.named_modules()}
    sizes = parameters.sizes
    total = float(sizes.sum()) or 1.0
    counts: dict[str, float] = {WATCHED: 0.0, FROZEN: 0.0}
    elsewhere: dict[str, str] = {}
    for name, tensor, size in zip(parameters.names, parameters.tensors, sizes.tolist(), strict=True):
        path = module_of(name.rpartition(".")[0])
        if path in owners or name in weights:
            reason = WATCHED if tensor.requires_grad else FROZEN
        else:
            why = missed.get(path or ROOT)
            kind = _kind(modules.get(path), tensor.dim())
            elsewhere.setdefault(path or ROOT, why or kind)
            reason = kind if why is None or why.endswith(MATRICES) else why
        counts[reason] = counts.get(reason, 0.0) + size
    first = {WATCHED: counts.pop(WATCHED), FROZEN: counts.pop(FROZEN)}
    rest = sorted(counts.items(), key=lambda item: -item[1])
    return {reason: count / total for reason, count in [*first.items(), *rest] if count}, elsewhere


def module_of(path: str) -> str:
    """The module that a parametrization of its weight belongs to; any other path as it is."""
    return re.sub(r"(^|\.)parametrizations(\.|$).*", "", path) if "parametrizations" in path else path


def _kind(module: nn.Module | None, axes: int) -> str:
    if module is not None and "norm" in type(module).__name__.lower():
        return NORM
    if module is not None and activations.from_module(module) is not None:
        return LEARNED
    return VECTOR if axes < 2 else UNUSED
