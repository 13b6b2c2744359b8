"""How mixed a learned mixture of activations still is."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lightning_neurohealth.measures.base import Level, Measure
from lightning_neurohealth.statistics.pooled_moments import PooledMoments


class MixtureEntropy(Measure):
    """Entropy −Σ p log₂ p of the shares p of the functions that a layer's AdaptiveActivation mixes, at the end of the
    window, a scalar, in bits.

    log₂ of their number at the start. 0: one function is left.

    Source: advanced activation techniques (S4).
    """

    level: ClassVar[Level] = "full"

    def compute(self, mixture_entropy: PooledMoments) -> Tensor:
        return mixture_entropy.mean
