"""Which parameters go with a neuron."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth.interventions.looking import unknown_layer
from lightning_neurohealth.interventions.masks import Masks
from lightning_neurohealth.interventions.wiring import Wires, Wiring, axis_of, depthwise, width


class CannotCutError(ValueError):
    """Neurons that cannot be taken out safely.

    Attributes:
        reasons: Layer to why not.
    """

    def __init__(
        self,
        reasons: dict[str, str],
        what: str = "take neurons out of",
        advice: str = "Leave these layers out of the masks, or pass skip=True",
    ) -> None:
        lines = "; ".join(f"{layer}: {reason}" for layer, reason in reasons.items())
        super().__init__(f"cannot {what} {lines}. {advice}")
        self.reasons = reasons


def checked_masks(wiring: Wiring, masks: Masks, skip: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Module to mask, for all layers that lose a neuron and their partners; and layer to reason, for those that cannot.

    Raises:
        TypeError, ValueError: A layer does not exist, a mask has another length, or a layer cannot be cut and ``skip``
            is not set.
    """
    if not isinstance(masks, Masks):
        masks = Masks(masks)
    layers = {layer.name: layer for layer in wiring.finder.ordered()}
    found: dict[str, Tensor] = {}
    reasons: dict[str, str] = {}
    for name, mask in masks.items():
        if name not in layers:
            raise unknown_layer(name, list(layers), wiring.finder.unknown)
        layer = layers[name]
        if len(mask) != layer.neurons:
            raise ValueError(f"masks[{name!r}] is of {len(mask)} neurons; {name} has {layer.neurons}")
        if not mask.any():
            continue
        obstacles = wiring[layer.owner].obstacles if layer.owner else ["it has no weight of its own"]
        together = [layer.owner, *wiring[layer.owner].partners] if layer.owner else []
        whole = torch.stack([mask.cpu(), *(found[owner] for owner in together if owner in found)]).any(0)
        if whole.all():
            obstacles = ["none of its neurons would be left"]
        if obstacles:
            reasons[name] = " and ".join(obstacles)
        else:
            found.update(dict.fromkeys(together, whole))
    if reasons and not skip:
        raise CannotCutError(reasons)
    return found, reasons


def own_tensors(module: nn.Module, neurons: int) -> Iterator[tuple[str, int]]:
    """Names of a module's tensors that have a number for each of its neurons, and along which axis."""
    axis = axis_of(module)
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(module, name, None)
        if isinstance(tensor, Tensor):
            along = axis if tensor.dim() >= 2 else 0
            if tensor.shape[along] == neurons:
                yield name, along


OWN = ("out_features", "out_channels", "num_features", "num_parameters", "nf")
"""Attributes in which modules count their neurons."""


def inputs_of(mask: Tensor, inner: int) -> Tensor:
    """The inputs of a reader that carry masked neurons, ``[neurons × inner]``."""
    return mask.repeat_interleave(inner)


def keep(module: nn.Module, name: str, axis: int, kept: Tensor) -> None:
    """Reduce one parameter or buffer of ``module`` to the kept indices of an axis."""
    tensor = getattr(module, name)
    smaller = tensor.detach().index_select(axis, kept.to(tensor.device)).clone()
    if isinstance(tensor, nn.Parameter):
        smaller = nn.Parameter(smaller, tensor.requires_grad)
    setattr(module, name, smaller)


def zero_outgoing(model: Any, wires: Wires, mask: Tensor) -> None:
    """Let no reader listen to the masked neurons."""
    with torch.no_grad():
        for reader, inner in wires.readers.items():
            module = model.get_submodule(reader)
            columns = inputs_of(mask, inner).nonzero().flatten().to(module.weight.device)
            module.weight.index_fill_(axis_of(module, incoming=True), columns, 0)


def cut(model: nn.Module, wiring: Wiring, masks: Mapping[str, Tensor]) -> None:
    """Take the masked neurons out of their modules, of what follows these, and of their readers."""
    readers: dict[str, Tensor] = {}
    for owner, mask in masks.items():
        wires, neurons, kept = wiring[owner], len(mask), (~mask).nonzero().flatten()
        for name in (owner, *dict.fromkeys(wires.norms)):
            module = model.get_submodule(name)
            counts = (*OWN, "in_channels", "groups") if depthwise(module) else OWN
            for tensor, axis in list(own_tensors(module, neurons)):
                keep(module, tensor, axis, kept)
            _count(module, counts, neurons, len(kept))
        readers.update({reader: ~inputs_of(mask, inner) for reader, inner in wires.readers.items()})
    for reader, inputs in readers.items():
        module = model.get_submodule(reader)
        before, columns = width(module, incoming=True), inputs.nonzero().flatten()
        keep(module, "weight", axis_of(module, incoming=True), columns)
        _count(module, ("in_features", "in_channels", "nx"), before, len(columns))


def _count(module: nn.Module, names: tuple[str, ...], before: int, now: int) -> None:
    for name in names:
        if getattr(module, name, None) == before:
            setattr(module, name, now)
