"""Holds ablations that were done together against single ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lightning_neurohealth.interventions import ablate
from tests.interventions.state import state


def check_together(model: nn.Module, data: Any, **options: Any) -> None:
    """They give the same changes of the loss, in fewer forwards, and leave the model as it was."""
    before = state(model)
    one, many = (ablate(model, data, together=k, progress=False, **options) for k in (1, 16))
    assert state(model) == before
    assert many.forwards < one.forwards / 1.5
    changes = [torch.cat([layer.change for layer in found.values()]) for found in (one, many)]
    torch.testing.assert_close(changes[1], changes[0], rtol=1e-4, atol=1e-6)
    assert changes[0].abs().max() > 1e-4
