"""A learned mixture of activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lightning_neurohealth import activations
from lightning_neurohealth.activations import Activation
from lightning_neurohealth.nn.functions import FUNCTIONS, known, total


class AdaptiveActivation(nn.Module):
    """A mixture of named activations, Σ softmax(w)_i f_i(z), with weights w that are learned.

    Args:
        names: Of ``FUNCTIONS``; at least two.

    Attributes:
        weights: Logits of the mixture, ``[names]``, all equal at the start.

    Raises:
        TypeError, ValueError: A name is not known, comes twice, or there is only one.

    Source: advanced activation techniques (S4).
    """

    def __init__(self, names: Sequence[str] = ("relu", "tanh", "silu", "identity")) -> None:
        super().__init__()
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise TypeError(f'names={names!r}: must be a list of names, e.g. ["relu", "tanh"]')
        for name in names:
            known(name)
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise ValueError(f"names={list(names)}: give at least two, each once")
        self.names = tuple(names)
        self.weights = nn.Parameter(torch.zeros(len(names)))

    def forward(self, z: Tensor) -> Tensor:
        """The mixture for each element of ``z``."""
        return total(w * FUNCTIONS[name](z) for name, w in zip(self.names, self.weights.softmax(0), strict=True))

    @property
    def shares(self) -> Tensor:
        """Share of each function, ``[names]``, adding up to 1."""
        return self.weights.detach().softmax(0)

    @property
    def mixture(self) -> dict[str, float]:
        """Share of each function by its name."""
        return dict(zip(self.names, self.shares.tolist(), strict=True))

    @property
    def entropy(self) -> float:
        """Entropy of the shares in bits: 0 where one function is left, log2(names) at the start."""
        return -sum(share * math.log2(share) for share in self.mixture.values() if share > 0)

    def extra_repr(self) -> str:
        """The shares, the largest first."""
        shares = sorted(self.mixture.items(), key=lambda item: -item[1])
        return ", ".join(f"{share:.0%} {name}" for name, share in shares)


def _slope(module: nn.Module, z: Tensor) -> Tensor:
    assert isinstance(module, AdaptiveActivation)
    shares = module.shares.to(z.dtype)
    return total(share * _slope_of(name, z) for name, share in zip(module.names, shares, strict=True))


def _slope_of(name: str, z: Tensor) -> Tensor:
    function = activations.from_function(FUNCTIONS[name])
    return torch.ones_like(z) if function is None else function.derivative(z)


def _activation(module: nn.Module) -> Activation:
    assert isinstance(module, AdaptiveActivation)
    slope, places = partial(_slope, module), activations.PLACES
    return Activation("adaptive", slope, init="he", gain=math.sqrt(2), parts=module.names, places=places)


activations.register(AdaptiveActivation, _activation)
