"""Recycling: dormant neurons begin anew, without a change of what the network computes but by their loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_neurohealth.interventions.constants import constants, said, uneven
from lightning_neurohealth.interventions.cutting import CannotCutError, inputs_of, own_tensors
from lightning_neurohealth.interventions.drawing import drawn
from lightning_neurohealth.interventions.edits import Edit, make
from lightning_neurohealth.interventions.looking import unknown_layer
from lightning_neurohealth.interventions.sample import call, sample_for
from lightning_neurohealth.interventions.selection import check_indices
from lightning_neurohealth.interventions.untouched import untouched
from lightning_neurohealth.interventions.wiring import Wiring, axis_of, wired
from lightning_neurohealth.layers import Layer


def recycle(
    model: nn.Module,
    neurons: Mapping[str, Sequence[int]],
    sample: Any = None,
    *,
    optimizers: Optimizer | Sequence[Optimizer] = (),
    seed: int = 0,
) -> int:
    """Give neurons fresh incoming weights, no bias, and outgoing weights of 0, and let the optimizer forget them.

    Numbers that a batch norm or a PReLU keeps of them start anew too. Of one that always gives the same number, not 0,
    as a dead neuron behind a batch norm does, the biases of its readers take over that number, where they can and the
    sample has at least 8 rows to tell. All of it happens or nothing.

    Args:
        model: Changed in place.
        neurons: Layer to indices.
        sample: Input of one forward, in which it is seen who reads whom: a tensor, arguments, or keywords; ``None`` for
            the model's ``example_input_array``, or numbers made up for its first layer.
        optimizers: Whose moments of these weights are set to 0.
        seed: Of the fresh weights.

    Returns:
        How many neurons were recycled.

    Raises:
        CannotCutError: A layer takes part in a residual sum, has tied weights, or the like.
        TypeError, ValueError: A layer or an index does not exist.

    Source: Sokar et al. (2023), "The dormant neuron phenomenon in deep reinforcement learning" (ReDo).
    """
    sample = sample_for(model, sample)
    with untouched(model, training=False), torch.no_grad():
        wiring = wired(model, lambda: call(model, sample))
    layers = {layer.name: layer for layer in wiring.finder.ordered()}
    for name, indices in neurons.items():
        if name not in layers:
            raise unknown_layer(name, list(layers), wiring.finder.unknown)
        check_indices(name, indices, layers[name])
    reasons = {name: why for name in neurons if (why := obstacle(wiring, layers[name]))}
    if reasons:
        raise CannotCutError(reasons, "recycle neurons of", "Leave these layers out")
    optimizers = [optimizers] if isinstance(optimizers, Optimizer) else optimizers
    gone = {layers[n]: list(i) for n, i in neurons.items() if len(i)}
    with untouched(model, training=False), torch.no_grad():
        readers = [reader for layer in gone if layer.owner for reader in wiring[layer.owner].readers]
        always = constants(model, readers, lambda: call(model, sample))
    return begin_anew(wiring, gone, optimizers, seed, always)


def obstacle(wiring: Wiring, layer: Layer) -> str:
    """Why neurons of ``layer`` cannot be recycled, empty if they can."""
    if layer.owner is None:
        return "it has no weight of its own"
    reasons = list(wiring[layer.owner].obstacles)
    module = wiring.finder.modules[layer.owner]
    if any(not p.requires_grad for p in module.parameters(recurse=False)):
        reasons.append("its weights are frozen")
    return " and ".join(reasons)


def begin_anew(
    wiring: Wiring,
    neurons: Mapping[Layer, Sequence[int]],
    optimizers: Iterable[Optimizer],
    seed: int,
    always: Mapping[str, Tensor] | None = None,
) -> int:
    """Recycle neurons of layers without obstacles; gives how many. ``always``: what their readers always read."""
    generator = torch.Generator().manual_seed(seed)
    states = [optimizer.state for optimizer in optimizers]
    gone = {layer: torch.tensor(list(indices)) for layer, indices in neurons.items()}
    # outgoing last: where both ends of a weight are recycled it is to be 0
    edits = [edit for layer, indices in gone.items() for edit in _incoming(wiring, layer, indices, generator)]
    edits += [edit for layer, indices in gone.items() for edit in _outgoing(wiring, layer, indices)]
    moments = [
        Edit(moment, edit.axis, edit.indices, 0.0)
        for edit in edits
        for state in states
        for moment in (state[edit.tensor].values() if edit.tensor in state else ())
        if isinstance(moment, Tensor) and moment.dim() and moment.shape == edit.tensor.shape
    ]
    make([*_kept(wiring, gone, always or {}), *edits, *moments])
    return sum(map(len, neurons.values()))


def _kept(wiring: Wiring, neurons: Mapping[Layer, Tensor], always: Mapping[str, Tensor]) -> Iterator[Edit]:
    """Biases that take over what the neurons always gave."""
    masks = {layer.owner: _mask(layer, gone) for layer, gone in neurons.items() if layer.owner}
    for name, (_, added) in said(wiring, masks, always).items():
        reader = wiring.finder.modules[name]
        if getattr(reader, "bias", None) is not None and not uneven(reader):
            bias = _stored(reader, "bias")
            yield Edit(bias, 0, torch.arange(len(bias)), bias.detach() + added)


def _incoming(wiring: Wiring, layer: Layer, gone: Tensor, generator: torch.Generator) -> Iterator[Edit]:
    assert layer.owner is not None
    modules, wires = wiring.finder.modules, wiring[layer.owner]
    owner = modules[layer.owner]
    for name, axis in own_tensors(owner, layer.neurons):
        fresh = drawn(owner, layer.function, generator).index_select(axis, gone) if name == "weight" else 0.0
        yield Edit(_stored(owner, name), axis, gone, fresh)
    for name in dict.fromkeys(wires.norms):
        module = modules[name]
        start = {"weight": getattr(module, "init", 1.0), "running_var": 1.0}
        for tensor, axis in own_tensors(module, layer.neurons):
            yield Edit(_stored(module, tensor), axis, gone, start.get(tensor, 0.0))


def _outgoing(wiring: Wiring, layer: Layer, gone: Tensor) -> Iterator[Edit]:
    assert layer.owner is not None
    mask = _mask(layer, gone)
    for name, inner in wiring[layer.owner].readers.items():
        reader = wiring.finder.modules[name]
        columns = inputs_of(mask, inner).nonzero().flatten()
        yield Edit(_stored(reader, "weight"), axis_of(reader, incoming=True), columns, 0.0)


def _mask(layer: Layer, neurons: Tensor) -> Tensor:
    mask = torch.zeros(layer.neurons, dtype=torch.bool)
    mask[neurons] = True
    return mask


def _stored(module: nn.Module, name: str) -> Tensor:
    """The parameter itself, where pruning has put a masked one in its place."""
    stored = getattr(module, f"{name}_orig", getattr(module, name))
    assert isinstance(stored, Tensor)
    return stored
