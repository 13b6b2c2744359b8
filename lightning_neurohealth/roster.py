"""Which layers there are: one list for all ranks, whoever of them has seen what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.activations import Activation
from lightning_neurohealth.layers import Layer, merged_order

Facts = dict[str, Any]
Identity = tuple[Any, ...]
LOCAL = ("device", "superseded", "part")


def facts_of(layer: Layer) -> Facts:
    """What one rank knows of a layer, in plain containers; without the slope of its activation, which is code."""
    facts = {name: value for name, value in vars(layer).items() if name not in LOCAL}
    function = {f.name: getattr(layer.function, f.name) for f in fields(Activation) if f.name != "derivative"}
    return {**facts, "function": function}


def layer_from(facts: Facts, device: torch.device) -> Layer:
    """A layer that another rank, or an earlier run, has seen: fit to hold statistics, not to take rows."""
    known = {f.name for f in fields(Layer)} - {"function", *LOCAL}
    function = Activation(derivative=_unknown, **facts["function"])
    return Layer(device=device, function=function, **{name: value for name, value in facts.items() if name in known})


def learn(layer: Layer, facts: Facts) -> None:
    """Bring ``layer`` up to date."""
    for name in facts.keys() - {"function"}:
        setattr(layer, name, facts[name])


def identity(facts: Facts | Layer) -> Identity:
    """What must be equal for two ranks to mean the same layer, and for their statistics to have the same shapes."""
    known = vars(facts) if isinstance(facts, Layer) else facts
    function = known["function"]
    name = function.name if isinstance(function, Activation) else function["name"]
    return known["name"], known["neurons"], known["activation"], name


def settle(said: Sequence[Sequence[Facts]]) -> list[Facts]:
    """One list of layers out of those that several ranks have seen, each in its order of execution.

    Where two mean different things by one name, the layer with an activation is right: the other has not met it yet.
    Otherwise the first is. A layer is an output only if nobody saw it read, and a gate if anybody saw it multiplied.
    """
    chosen: dict[str, Facts] = {}
    for facts in (facts for of_rank in said for facts in of_rank):
        name = facts["name"]
        before = chosen.get(name)
        if before is None or (before["activation"] is None and facts["activation"] is not None):
            chosen[name] = dict(facts)
        elif identity(before) == identity(facts):
            before["output"] = before["output"] and facts["output"]
            before["gate"] = before["gate"] or facts["gate"]
    order = merged_order([[facts["name"] for facts in of_rank] for of_rank in said])
    return [{**chosen[name], "order": place} for place, name in enumerate(order)]


def _unknown(z: Tensor) -> Tensor:
    # of a layer that another rank has seen only sums come here, and slopes are measured where it runs
    raise NotImplementedError("the slope of an activation is known where the layer was seen")
