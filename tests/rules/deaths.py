"""Neurons that have been silent for some windows, made by hand, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.life import Life, observe
from lightning_neurohealth.rules.base import Verdict
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from tests.rules import by_hand

Measures = dict[str, Tensor]


def measures(dead: int | Tensor, neurons: int = 100, rows: int = 1000) -> Measures:
    """ReLU neurons of which the first ones, or those of a mask, never fire."""
    mask = torch.arange(neurons) < dead if isinstance(dead, int) else dead
    return {
        "on_rate": 0.5 * (~mask).double(),
        "zero_rate": 0.5 + 0.5 * mask.double(),
        "activation_std": (~mask).double(),
        "activation_rows": torch.tensor(float(rows)),
        "slope": 0.5 * (~mask).double(),
    }


def lived(layer: Layer, now: Measures, past: Sequence[Measures], born: Any, **facts: Any) -> Life:
    """The life of a layer that has seen these windows, all with the same facts."""
    lives: dict[str, Life] = {}
    initial = {layer.name: measures(born, layer.neurons)} if born is not None else {}
    for i, seen in enumerate([*past, now]):
        window = by_hand.window(**{**facts, "steps": 20, "seen": 20 * (i + 1)})
        observe(lives, {layer.name: layer}, {layer.name: seen}, initial, window)
    return lives[layer.name]


def judge(
    now: Measures,
    past: Sequence[Measures] = (),
    *,
    layer: Layer | None = None,
    born: Any = None,
    evidence: Any = None,
    rule: DeadNeurons | None = None,
    lives: Any = None,
    norms: Tensor | None = None,
    frozen: tuple[str, ...] = (),
    **facts: Any,
) -> Verdict | None:
    """From the measures of all windows, and of the neurons that were dead at birth; if not given, of the first."""
    layer = layer or by_hand.layer()
    facts = {"seen": 200, **facts}
    life = lived(layer, now, past, born, **facts)
    window = by_hand.window(**facts)
    return (rule or DeadNeurons()).judge(
        layer=layer,
        life=life,
        lives=lives or {},
        window=window,
        past=[],
        layers={layer.name: layer},
        parameters=by_hand.parameters(layer.name, frozen=frozen),
        initial={} if norms is None else {"weight_norm": {layer.name: norms}},
        **(evidence or {}),
    )


def bias(negativity: float) -> dict[str, Tensor]:
    return {"bias_negativity": torch.full((100,), negativity, dtype=torch.float64)}


def reach(most: float) -> dict[str, Tensor]:
    return {"positive_weight_sum": torch.full((100,), most, dtype=torch.float64)}
