"""Watches two steps of a model and says what was found, in short."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from lightning_neurohealth import Monitor
from lightning_neurohealth.coverage import Coverage
from lightning_neurohealth.layers import Layer


class Found(NamedTuple):
    """Name, neurons, axis and activation function of each layer in the order of execution, and the layers."""

    rows: list[tuple[str, int, int, str]]
    layers: dict[str, Layer]
    coverage: Coverage


def watched(model: nn.Module, within: str = "", **inputs: Any) -> Found:
    """What is found below ``within``; every layer must have numbers, and its owner its own name."""
    monitor = Monitor(model.train(), every_n_steps=1, window="epoch")
    for _ in range(2):
        with monitor:
            model(**inputs).logits.square().mean().backward()
    report = monitor.close()
    monitor.remove()
    assert monitor.failure is None
    assert report is not None
    layers = {layer.name: layer for layer in monitor.finder.ordered()}
    assert list(report) == list(layers)
    names = dict(model.named_modules())
    for name, layer in layers.items():
        assert report[name]["on_rate"].shape == (layer.neurons,)
        owner = names.get(layer.owner or "")
        frozen = isinstance(owner, nn.Embedding) and not owner.weight.requires_grad
        assert frozen or report[name]["gradient_flow"].shape == (layer.neurons,)
        assert layer.owner is None or (layer.owner == name and names[name].weight is not None)
        assert (layer.weight_axis is None) == (layer.owner is None or isinstance(owner, nn.Embedding))
    rows = [
        (name.removeprefix(within), x.neurons, x.axis, x.function.name)
        for name, x in layers.items()
        if name.startswith(within)
    ]
    return Found(rows, layers, report.coverage)


def gates(found: Found) -> set[str]:
    return {name for name, layer in found.layers.items() if layer.gate}


def outputs(found: Found) -> list[str]:
    return [name for name, layer in found.layers.items() if layer.output]
