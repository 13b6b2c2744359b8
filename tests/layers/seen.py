"""What a test asks of the layers that were found."""

from __future__ import annotations

from typing import Any

from lightning_neurohealth.layers import Layer


def rows_of(layers: dict[str, Layer]) -> list[tuple[Any, ...]]:
    """Name, owner, activation, axis and neurons of each layer, in the order of execution."""
    return [(name, x.owner, x.activation, x.axis, x.neurons) for name, x in layers.items()]


def outputs(layers: dict[str, Layer]) -> list[str]:
    return [name for name, layer in layers.items() if layer.output]
