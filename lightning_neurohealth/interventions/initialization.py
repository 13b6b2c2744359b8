"""Initialisation: fresh weights for every layer, by the activation that follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import Parameter
from torch.nn.utils import parametrize

from lightning_neurohealth.interventions.drawing import drawn
from lightning_neurohealth.interventions.edits import Edit, make
from lightning_neurohealth.interventions.looking import chosen, look
from lightning_neurohealth.interventions.sample import call, sample_for
from lightning_neurohealth.interventions.untouched import untouched
from lightning_neurohealth.interventions.wiring import cuttable
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.taps import Taps


@dataclass(frozen=True)
class Initialization:
    """What was initialised.

    Attributes:
        chosen: Layer to ``"he"``, ``"xavier"`` or ``"lecun"``.
        left: Layers that were left as they are, each with the reason.
    """

    chosen: Mapping[str, str]
    left: Mapping[str, str]


def initialize(
    model: nn.Module,
    sample: Any = None,
    *,
    layers: Sequence[str] | None = None,
    relu_bias: float = 0.0,
    seed: int | None = None,
) -> Initialization:
    """Draw the weights of Linear and convolution layers anew so that they keep variances, and set their biases to 0.

    He, Xavier or LeCun with the gain of torch.nn.init, normally distributed, as the activation that follows asks for
    it. Frozen layers, recurrent ones and computed weights stay as they are, and so do embeddings and norms.

    Args:
        model: Changed in place, all of it or nothing.
        sample: Input of one forward, in which the activations are found: a tensor, arguments, or keywords; ``None`` for
            the model's ``example_input_array``, or numbers made up for its first layer.
        layers: Glob patterns over names of layers; ``None`` for all.
        relu_bias: Bias of layers with a dead zone at 0; 0.01 helps against neurons that are dead at birth.
        seed: Of the draw; ``None`` for torch's random numbers.

    Raises:
        TypeError, ValueError: A pattern matches no layer, or the model cannot be looked at.
    """
    if isinstance(relu_bias, bool) or not isinstance(relu_bias, (int, float)):
        raise TypeError(f"relu_bias={relu_bias!r}: must be a number")
    sample = sample_for(model, sample)
    with untouched(model, training=False), torch.no_grad():
        taps = look(model, lambda: call(model, sample), Taps)
    found = {layer.name: layer for layer in taps.finder.ordered()}
    wanted = chosen(found, ["*"] if layers is None else layers, taps.finder.unknown)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())) if seed is None else seed)
    schemes: dict[str, str] = {}
    left: dict[str, str] = {}
    edits: list[Edit] = []
    done: set[int] = set()
    for name, layer in wanted.items():
        module = taps.finder.modules.get(layer.owner or "") if layer.owner else None
        reason = _obstacle(taps.finder.modules, module, done)
        if reason or module is None:
            left[name] = reason
            continue
        weight, bias = module.weight, module.bias
        assert isinstance(weight, Parameter)
        done.add(id(weight))
        schemes[name] = layer.function.init
        edits.append(_whole(weight, drawn(module, layer.function, generator)))
        if isinstance(bias, Parameter):
            edits.append(_whole(bias, torch.full_like(bias, relu_bias if _dead_at_zero(layer) else 0.0)))
    make(edits)
    return Initialization(schemes, left)


def _obstacle(modules: Mapping[str, nn.Module], module: nn.Module | None, done: set[int]) -> str:
    if module is None:
        return "it has no weight of its own"
    weight = getattr(module, "weight", None)
    if parametrize.is_parametrized(module) or (weight is not None and not isinstance(weight, Parameter)):
        return "its weight is computed from others"
    if not cuttable(module):
        return f"{type(module).__name__} initialises itself"
    assert weight is not None
    if not weight.requires_grad:
        return "its weights are frozen"
    if id(weight) in done:
        return "its weights are those of an earlier layer"
    holders = (
        name for name, m in modules.items() if not cuttable(m) and any(p is weight for p in m._parameters.values())
    )
    holder = next(holders, "")
    return f"its weights are those of {holder}" if holder else ""


def _dead_at_zero(layer: Layer) -> bool:
    return 0.0 in layer.function.dead_values and layer.function.lower == 0


def _whole(tensor: torch.Tensor, values: torch.Tensor) -> Edit:
    return Edit(tensor, 0, torch.arange(len(tensor)), values)
