"""An activation whose shape is learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import activations
from lightning_neurohealth.activations import Activation
from lightning_neurohealth.nn.functions import FUNCTIONS, REACH, known, total

SHARPNESS = 100.0
"""Of a unit's bend: softplus(100 x) / 100 is at most log 2 / 100 = 0.007 from ReLU."""


class ShapeLearningActivation(nn.Module):
    """An activation whose shape is learned: s z + Σ v_j softplus(β (z − t_j)) / β + c, that starts as a known one.

    Each unit bends the line at one place t_j; outside [−3, 3] it goes on straight. It holds ``units`` numbers for each
    element while it runs, so it is for small layers.

    Args:
        like: What it starts as: a name of ``FUNCTIONS``, or any function of one tensor, element by element.
        units: How many bends; 23 are at −2.75, −2.5, … 2.75, where the kinks of known functions are among them.

    Attributes:
        error: Largest distance from ``like`` on [−3, 3] at the start; under 0.01 for all of ``FUNCTIONS``.

    Raises:
        TypeError, ValueError: ``like`` is not known or not finite, or there is no unit.

    Source: advanced activation techniques (S4), whose network of tanh is flat outside the range it was fitted on.
    """

    def __init__(self, like: str | Callable[[Tensor], Tensor] = "relu", units: int = 23) -> None:
        super().__init__()
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ValueError(f"units={units!r}: must be a whole number of at least 1")
        function = FUNCTIONS[known(like)] if isinstance(like, str) else like
        if not callable(function):
            raise TypeError(f"like={like!r}: must be a name or a function")
        places = torch.linspace(-REACH, REACH, units + 2, dtype=torch.float64)[1:-1]
        grid = torch.linspace(-REACH, REACH, 2001, dtype=torch.float64)
        with torch.no_grad():
            target = function(grid)
            if not isinstance(target, Tensor) or target.shape != grid.shape or not target.isfinite().all():
                raise ValueError(f"like={like!r}: must give a finite number for each element on [−3, 3]")
            bends = F.softplus(grid.unsqueeze(1) - places, beta=SHARPNESS)
            design = torch.cat([bends, grid.unsqueeze(1), torch.ones(len(grid), 1, dtype=torch.float64)], 1)
            solution = torch.linalg.lstsq(design, target.unsqueeze(1)).solution.flatten()
        self.places = nn.Parameter(places.float())
        self.heights = nn.Parameter(solution[:-2].float())
        self.slope = nn.Parameter(solution[-2].float())
        self.offset = nn.Parameter(solution[-1].float())
        with torch.no_grad():
            self.error = float((self(grid.float()) - target).abs().max())

    def forward(self, z: Tensor) -> Tensor:
        """The learned shape at each element of ``z``."""
        bends = F.softplus(z.unsqueeze(-1) - self.places, beta=SHARPNESS)
        return self.slope * z + (bends * self.heights).sum(-1) + self.offset

    def extra_repr(self) -> str:
        """How many bends, and how far the start was from what it imitates."""
        return f"units={len(self.heights)}, error={self.error:.2g}"


def _slope(module: nn.Module, z: Tensor) -> Tensor:
    assert isinstance(module, ShapeLearningActivation)
    slope, heights, places = (p.detach().to(z.dtype) for p in (module.slope, module.heights, module.places))
    # unit by unit: all at once would hold units numbers for each element
    bends = (height * torch.sigmoid(SHARPNESS * (z - place)) for height, place in zip(heights, places, strict=True))
    return slope + total(bends)


def _activation(module: nn.Module) -> Activation:
    slope = partial(_slope, module)
    return Activation("shape_learning", slope, init="he", gain=math.sqrt(2), places=activations.PLACES)


activations.register(ShapeLearningActivation, _activation)
