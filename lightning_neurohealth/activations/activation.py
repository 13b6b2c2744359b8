"""What is known about an activation function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_neurohealth.activations import derivatives

CUTOFF = 0.99
"""From where on an end that f only approaches counts as reached, unless somebody says otherwise."""
PLACES = 49
"""Of a learned shape: an odd number, so that one of them is 0."""


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation function f, as far as the measures need it.

    Attributes:
        name: The usual short name ("relu", "gelu_tanh").
        derivative: f'(z), elementwise, for z as a view `[outer, neurons, inner]`; equal to torch's autograd, kinks
            included. NaN stays NaN.
        dead_values: Values of a on the pieces where f' is exactly 0: a neuron that stays there cannot learn
            (ReLU 0; ReLU6 0 and 6).
        lower: Finite infimum of f, approached or reached, else None.
        upper: Finite supremum of f, approached or reached, else None.
        tails: For z below the first or above the second, |f'| stays under 5 % of `peak`; tanh and sigmoid by
            convention at 2.5 and 5.
        peak: Largest |f'(z)|; 1 where it has no finite or no fixed value (ReLU squared, PReLU).
        init: Initialisation that keeps variances: He et al. 2015, Glorot & Bengio 2010, LeCun et al. 1998.
        gain: Its gain, as in `torch.nn.init.calculate_gain`.
        linear: Whether f is the identity.
        periodic: Whether f repeats itself: it has bounds at which no neuron can be stuck, and so none here.
        parts: Names of the functions of which f is a mixture whose `shares`, a property of the module, are learned.
        places: At so many even places of [−3, 3] the shape that f has learned is looked at; 0 where it learns none.
    """

    name: str
    derivative: Callable[[Tensor], Tensor]
    dead_values: tuple[float, ...] = ()
    lower: float | None = None
    upper: float | None = None
    tails: tuple[float, float] = (-math.inf, math.inf)
    peak: float = 1.0
    init: Literal["he", "xavier", "lecun"] = "xavier"
    gain: float = 1.0
    linear: bool = False
    periodic: bool = False
    parts: tuple[str, ...] = ()
    places: int = 0

    @property
    def is_nonnegative(self) -> bool:
        """Whether f gives nothing below 0."""
        return self.lower is not None and self.lower >= 0

    @property
    def is_gate(self) -> bool:
        """Whether f' is 1 for z > 0 and 0 for every other number, as ReLU's is."""
        return self.derivative is derivatives.relu_slope

    @property
    def saturates(self) -> bool:
        """Whether a neuron can be stuck at an end of f other than a dead zone at 0."""
        return self.saturation_bounds() != (None, None)

    def saturation_bounds(self, cutoff: float = CUTOFF) -> tuple[float | None, float | None]:
        """Values (low, high): a ≤ low or a ≥ high is saturated; None where f has no such end.

        Ends that f only approaches count from `cutoff` on (tanh ±cutoff, sigmoid 1 - cutoff and cutoff), and only if
        there are two: ELU or GELU flatten on one side by design. Ends that f reaches count themselves, except a
        flat end at 0, which is a dead zone (ReLU6: None and 6).
        """
        if self.lower is not None and self.upper is not None and not self.dead_values:
            margin = (1 - cutoff) * max(abs(self.lower), abs(self.upper))
            return self.lower + margin, self.upper - margin
        low, high = (end if end in self.dead_values and end != 0 else None for end in (self.lower, self.upper))
        return low, high


IDENTITY = Activation("identity", torch.ones_like, init="lecun", linear=True)
"""For a layer that no activation follows; LeCun's initialisation keeps its forward variance."""
HEADS = Activation("attention", torch.ones_like, dead_values=(0.0,), linear=True)
"""For the heads of attention: one that gives exactly 0, update after update, has no values any more."""
