"""Gives a model gradients, and takes what is reported of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report


def _gradient(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.7 + 0.1).to(dtype)


GRADIENTS = {
    "matrix": _gradient(5, 7),
    "bias": _gradient(5),
    "one element": _gradient(1),
    "scalar": _gradient(),
    "convolution": _gradient(4, 3, 2, 2).to(memory_format=torch.channels_last),
    "transposed": _gradient(5, 7).T,
    "large": _gradient(300, 251),
    "float16": _gradient(5, 7, dtype=torch.float16),
    "bfloat16": _gradient(300, 251, dtype=torch.bfloat16),
    "float64": _gradient(5, 7, dtype=torch.float64),
}

every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=lambda g: "")


class Holder(nn.Module):
    """Parameters that nothing applies, beside a layer."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 1)
        self.held = nn.ParameterList([nn.Parameter(torch.zeros_like(p)) for p in parameters])


def reported(steps: Sequence[Sequence[Tensor | None]], like: Sequence[Tensor] | None = None, **settings: Any) -> Report:
    """What is reported after these gradients of ``held.0``, ``held.1``, …, one row a step."""
    model = Holder([g for g in steps[0] if g is not None] if like is None else like)
    names = ["gradient_norm", "gradient_mean", "gradient_std", "gradient_min", "gradient_max"]
    monitor = Monitor(model, **{"every_n_steps": 1, "measures": names, "rules": [], **settings})
    for gradients in steps:
        with monitor:
            model.fc(torch.ones(3, 2)).sum().backward()
            for parameter, gradient in zip(model.held, gradients, strict=True):
                parameter.grad = gradient
    report = monitor.close()
    monitor.remove()
    assert monitor.failure is None
    assert report is not None
    return report


def of_each(name: str, report: Report) -> list[float]:
    """The measure of each of them."""
    return [float(of[name]) for parameter, of in report.parameters.items() if parameter.startswith("held")]


def elements(*gradients: Tensor) -> np.ndarray:
    """All elements in float64."""
    return np.concatenate([np.asarray(g.double()).ravel() for g in gradients])
