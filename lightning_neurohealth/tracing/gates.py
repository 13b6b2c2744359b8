"""Finds activations that multiply something else."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.tracing.origins import Origins


def find_gates(origins: Origins, tensors: Iterable[Tensor], alone: bool = False) -> None:
    """``tensors`` are multiplied with each other, or ``alone`` with what is no activation: note whose are gates."""
    factors = [t for t in tensors if t.dim() > 0 and not isinstance(t, nn.Parameter)]
    layers: dict[int, Layer] = {
        id(layer): layer for layer in (origins.of(factor).layer for factor in factors) if layer is not None
    }
    if alone or (len(factors) >= 2 and len({id(f) for f in factors}) >= 2):
        bounded = [layer for layer in layers.values() if layer.function.saturates]
        for layer in bounded or layers.values():  # what a bounded one multiplies is the value
            layer.gate = True


def is_bounded(origins: Origins, tensor: Tensor) -> bool:
    """False for the activation of a layer that has no bounds."""
    layer = origins.of(tensor).layer
    return layer is None or layer.function.saturates
