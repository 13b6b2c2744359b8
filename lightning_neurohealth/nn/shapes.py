"""Pictures of learned activations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth.nn.adaptive_activation import AdaptiveActivation
from lightning_neurohealth.nn.functions import REACH
from lightning_neurohealth.nn.shape_learning_activation import ShapeLearningActivation


@torch.no_grad()
def shapes(model: nn.Module, points: int = 241) -> dict[str, tuple[Tensor, Tensor]]:
    """The learned activations of a model as they are now: name to z ``[points]`` on [−3, 3] and f(z) ``[points, k]``.

    k is 1, or the number of slopes of a PReLU.
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, (AdaptiveActivation, ShapeLearningActivation, nn.PReLU)):
            parameter = next(module.parameters())
            z = torch.linspace(-REACH, REACH, points, device=parameter.device, dtype=parameter.dtype)
            columns = module.num_parameters if isinstance(module, nn.PReLU) else 1
            found[name] = (z.cpu(), module(z.unsqueeze(1).expand(-1, columns)).cpu())
    return found


def draw_shapes(model: nn.Module) -> Any:
    """A matplotlib figure of the learned activations of a model.

    Raises:
        ValueError: There are none.
        ImportError: matplotlib is missing.
    """
    found = shapes(model)
    if not found:
        raise ValueError(f"{type(model).__name__} has no activation that learns its shape")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("draw_shapes needs matplotlib: pip install 'lightning-neurohealth[plots]'") from error
    columns = min(len(found), 4)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(3 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, (name, (z, a)) in zip(axes, found.items(), strict=False):
        ax.plot(z, a, color="C0", alpha=max(0.1, 1 / a.shape[1]))
        ax.set_title(name or type(model).__name__, fontsize="small")
        ax.axhline(0, color="0.8", zorder=0)
        ax.axvline(0, color="0.8", zorder=0)
    for ax in axes[len(found) :]:
        ax.remove()
    return figure
