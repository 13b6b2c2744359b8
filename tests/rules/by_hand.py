"""Layers, windows and losses made by hand, to judge them directly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth.activations import IDENTITY, from_module
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.progress import Progress
from lightning_neurohealth.window import Past, Window

CPU = torch.device("cpu")


def layer(neurons: int = 100, act: nn.Module | None = None, name: str = "fc1", **facts: Any) -> Layer:
    """A hidden layer with a ReLU unless another activation is given."""
    function = from_module(act or nn.ReLU())
    assert function is not None
    facts = {"owner": name, "weight": f"{name}.weight", "output": False, **facts}
    return Layer(name, neurons, -1, CPU, function, "act", **facts)


def linear(neurons: int = 100, name: str = "fc1", **facts: Any) -> Layer:
    """A hidden layer without an activation."""
    facts = {"owner": name, "weight": f"{name}.weight", "output": False, **facts}
    return Layer(name, neurons, -1, CPU, IDENTITY, **facts)


def chain(number: int, act: nn.Module | None = None, outputs: int = 1) -> dict[str, Layer]:
    """Layers fc1, fc2, … that each read the one before, the last ones of them outputs."""
    names = [f"fc{i + 1}" for i in range(number)]
    return {
        name: layer(
            act=act, name=name, order=i, output=i >= number - outputs, sources=frozenset(names[max(i - 1, 0) : i])
        )
        for i, name in enumerate(names)
    }


def losses(*values: float, adversarial: bool = False) -> Progress:
    """Progress after one window with these losses."""
    progress = Progress(adversarial=adversarial)
    progress.add(list(values), 0, 1)
    return progress


def flat() -> Progress:
    return losses(*[2.0] * 40)


def learning() -> Progress:
    """Half of the loss is gone."""
    return losses(*[2.0] * 20, *[1.0] * 20)


def rising() -> Progress:
    """The loss has more than doubled."""
    return losses(*[2.0] * 20, *[10.0] * 20)


def window(**facts: Any) -> Window:
    """20 measured steps of no known epoch, some way into a run that does not learn."""
    known = {"index": 3, "epoch": 0, "step": 80, "steps": 20, "measured": 20, "seen": 80, "progress": flat()}
    return Window(**{**known, **facts})


def past(measures: dict[str, Any], **facts: Any) -> Past:
    """An earlier window."""
    return Past(window(**facts), measures)


def shares(ones: int, of: int = 100) -> Tensor:
    """1 for the first neurons, 0.5 for the rest."""
    values = torch.full((of,), 0.5, dtype=torch.float64)
    values[:ones] = 1.0
    return values


def numbers(**values: float) -> dict[str, Tensor]:
    """One number a layer or parameter."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def parameters(*layers: str, optimized: set[str] | None = None, frozen: tuple[str, ...] = ()) -> Parameters:
    """Weight and bias of some layers."""
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in layers})
    for name in frozen:
        model[name].requires_grad_(False)
    return Parameters(model, optimized=optimized)
