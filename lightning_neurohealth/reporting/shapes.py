"""The shapes that activations have learned, window by window."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.reporting.history import History

SHAPE = "learned_shape"
REACH = 3.0


def learned_shapes(history: History, layer: str) -> list[tuple[int, Tensor]]:
    """Place of each window that holds the shape of the layer's activation, and f(z), ``[places]``."""
    found = []
    for place, report in enumerate(history.reports):
        values = report.layers[layer].measures.get(SHAPE) if layer in report.layers else None
        if values is not None and values.dim() == 1 and values.numel() > 1:
            found.append((place, values.detach().cpu().double()))
    return found


def reach(shape: Tensor) -> Tensor:
    """The z of each of its places."""
    return torch.linspace(-REACH, REACH, len(shape), dtype=torch.float64)
