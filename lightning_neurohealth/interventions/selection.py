"""Which neurons an ablation is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from lightning_neurohealth.interventions.looking import unknown_layer
from lightning_neurohealth.interventions.silencer import Group
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.report import Report

Choice = Literal["all", "suspects"] | int | Mapping[str, Sequence[Any]]


def select(layers: Mapping[str, Layer], choice: Choice, report: Report | None, seed: int) -> dict[str, list[Group]]:
    """Groups of neurons to silence, by layer.

    Raises:
        TypeError: The choice is nothing of the kind.
        ValueError: A layer or an index does not exist, or nothing is left to ablate.
    """
    if isinstance(choice, Mapping):
        groups = {name: _given(name, wanted, layers) for name, wanted in choice.items()}
    elif choice == "all":
        groups = {name: _singles(range(layer.neurons)) for name, layer in layers.items()}
    elif choice == "suspects":
        groups = _suspects(layers, report)
    elif isinstance(choice, int) and not isinstance(choice, bool):
        if choice < 1:
            raise ValueError(f"neurons={choice}: must be at least 1")
        draw = torch.Generator().manual_seed(seed)
        groups = {
            name: _singles(sorted(torch.randperm(layer.neurons, generator=draw)[:choice].tolist()))
            for name, layer in layers.items()
        }
    else:
        raise TypeError(f'neurons={choice!r}: must be "all", "suspects", a number, or a mapping of layer to indices')
    groups = {name: found for name, found in groups.items() if found}
    if not groups:
        raise ValueError(f"neurons={choice!r}: there is no such neuron in {', '.join(layers)}")
    return groups


def report_of(trainer: Any) -> Report | None:
    """The last report of the NeuronHealth among the callbacks of a Trainer."""
    reports = (getattr(callback, "report", None) for callback in getattr(trainer, "callbacks", ()))
    return next((report for report in reports if isinstance(report, Report)), None)


def check_indices(name: str, indices: Sequence[Any], layer: Layer) -> Group:
    """The indices as a tuple of ints.

    Raises:
        TypeError: One is no whole number.
        ValueError: One is out of range.
    """
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"neurons[{name!r}]: {index!r} is no index")
        if not 0 <= index < layer.neurons:
            raise ValueError(f"neurons[{name!r}]: {index} is out of range; {name} has neurons 0 to {layer.neurons - 1}")
    return tuple(indices)


def _given(name: str, wanted: Any, layers: Mapping[str, Layer]) -> list[Group]:
    if name not in layers:
        raise unknown_layer(name, list(layers), {})
    if isinstance(wanted, torch.Tensor):
        wanted = (wanted.nonzero().flatten() if wanted.dtype == torch.bool else wanted).tolist()
    if isinstance(wanted, str) or not isinstance(wanted, Sequence):
        raise TypeError(f"neurons[{name!r}]={wanted!r}: must be a list of indices, or of lists of them")
    groups = [tuple(w) if isinstance(w, (list, tuple)) else (w,) for w in wanted]
    if () in groups:
        raise ValueError(f"neurons[{name!r}]: a group is empty")
    return [check_indices(name, group, layers[name]) for group in groups]


def _suspects(layers: Mapping[str, Layer], report: Report | None) -> dict[str, list[Group]]:
    if report is None:
        raise ValueError('neurons="suspects" needs a report, e.g. report=health.report, or a Trainer with NeuronHealth')
    found: dict[str, set[int]] = {}
    for finding in report.findings:
        if finding.layer is not None and finding.layer in layers and finding.neurons:
            found.setdefault(finding.layer, set()).update(finding.neurons)
    if not found:
        raise ValueError("no finding of the report names a neuron of these layers: there is no suspect")
    return {name: _singles(check_indices(name, sorted(indices), layers[name])) for name, indices in found.items()}


def _singles(indices: Sequence[int]) -> list[Group]:
    return [(index,) for index in indices]
