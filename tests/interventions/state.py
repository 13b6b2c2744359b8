"""All that a look at a model must leave as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.training import traces


def state(model: nn.Module) -> dict[str, Any]:
    """Hooks, modes, training flags, tensors, gradients and random numbers, in a form that can be compared."""
    return {
        **traces(model),
        "flags": [module.training for module in model.modules()],
        "tensors": {name: tensor.clone().tolist() for name, tensor in model.state_dict().items()},
        "gradients": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "asks": [p.requires_grad for p in model.parameters()],
        "random": torch.get_rng_state().tolist(),
    }
